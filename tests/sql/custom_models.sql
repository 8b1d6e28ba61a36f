-- Custom models: the example of the Cloud SQL reference, header functions, templates and paths.
CREATE DATABASE cymbal;
USE cymbal;
CREATE FUNCTION IF NOT EXISTS cymbal_text_input_transform(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('prompt', JSON_ARRAY(input_text));
-- As published the output function reads `content`, which is none of its parameters: the error names it.
CREATE FUNCTION IF NOT EXISTS cymbal_published(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(JSON_EXTRACT(content, '$.predictions[0].embeddings.values'));
CALL mysql.ml_create_model_registration('as-published', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', 'cymbal-1', NULL, NULL, NULL, 'cymbal_text_input_transform', 'cymbal_published');
SELECT mysql.ml_embedding('as-published', 'Cloud SQL embeddings');
CALL mysql.ml_drop_model_registration('as-published');

-- MySQL's own STRING_TO_VECTOR takes text, not JSON: the error says how to write it.
CREATE FUNCTION cymbal_json(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(JSON_EXTRACT(response_json, '$[0]'));
CALL mysql.ml_create_model_registration('json-given', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', 'cymbal-1', NULL, NULL, NULL, 'cymbal_text_input_transform', 'cymbal_json');
SELECT mysql.ml_embedding('json-given', 'Cloud SQL embeddings');
CALL mysql.ml_drop_model_registration('json-given');
CREATE FUNCTION IF NOT EXISTS cymbal_text_output_transform(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(CAST(JSON_EXTRACT(response_json, '$[0]') AS CHAR));
CALL mysql.ml_create_model_registration('custom-embedding-model', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', 'cymbal-1', NULL, NULL, NULL, 'cymbal_text_input_transform', 'cymbal_text_output_transform');
SELECT VECTOR_DIM(mysql.ml_embedding('custom-embedding-model', 'Cloud SQL embeddings')) AS dimensions;
--@ last BODY
-- The body that an input function makes is for the endpoint only.
SELECT ai.explain_request('ml_embedding', '{"content": "x", "model_id": "custom-embedding-model"}');
SELECT input_transform_fn, output_transform_fn, definer FROM mysql.cloudsql_ml_models;
SELECT VECTOR_DIM(ml_embedding('custom-embedding-model', 'It''s "quoted" \\ 😀')) AS dimensions;
--@ last BODY
CALL mysql.ml_drop_model_registration('custom-embedding-model');

-- The other published order: input, output, header.
CALL mysql.ml_create_model_registration('other-order', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', NULL, NULL, NULL, 'cymbal_text_input_transform', 'cymbal.cymbal_text_output_transform', NULL);
SELECT header_gen_fn, input_transform_fn, output_transform_fn FROM mysql.cloudsql_ml_models;
SELECT VECTOR_DIM(mysql.ml_embedding('other-order', 'x')) AS dimensions;
CALL mysql.ml_drop_model_registration('other-order');

-- Headers from a function, for embeddings and for ml_predict_row; it may replace the secret's header.
CREATE FUNCTION headers(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-model', model_id, 'x-length', CHAR_LENGTH(input_text));
CREATE FUNCTION predict_headers(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-api-key', 'key-of-the-function', 'x-question', input ->> '$.q');
CREATE FUNCTION auth_header(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('Authorization', 'Basic mine-not-bearer');
CREATE FUNCTION no_headers(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN NULL;
CREATE FUNCTION broken_headers(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_ARRAY(1);
CALL mysql.ml_create_model_registration('h', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', NULL, NULL, NULL, 'headers', 'json:{"prompt":["{{input}}"]}', 'path:$[0]');
SELECT VECTOR_DIM(mysql.ml_embedding('h', 'four')) AS dimensions;
--@ last header x-model
--@ last header x-length
--@ last BODY
CALL mysql.ml_create_model_registration('ph', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, 'predict_headers', NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('ph', '{"q": "why"}'), '$.headers."x-question"') AS question, JSON_EXTRACT(ml_predict_row('ph', '{"q": "why"}'), '$.headers."x-api-key"') AS key_blotted_out;
--@ last header x-api-key
CALL mysql.ml_create_sm_secret_registration('s', 'env:MYSQL_ML_SECRET_TEST');
CALL mysql.ml_alter_model_registration('ph', NULL, NULL, NULL, NULL, 'secret_manager', 's', 'auth_header', NULL, NULL);
SELECT mysql.ml_predict_row('ph', '{}') IS NOT NULL AS answered;
--@ last header authorization
CALL mysql.ml_alter_model_registration('ph', NULL, NULL, NULL, NULL, NULL, NULL, 'no_headers', NULL, NULL);
SELECT mysql.ml_predict_row('ph', '{}');
CALL mysql.ml_alter_model_registration('ph', NULL, NULL, NULL, NULL, NULL, NULL, 'broken_headers', NULL, NULL);
SELECT mysql.ml_predict_row('ph', '{}');
CALL mysql.ml_alter_model_registration('ph', NULL, NULL, NULL, NULL, '', '', '', NULL, NULL);
SELECT model_auth_type, model_auth_id, header_gen_fn FROM mysql.cloudsql_ml_models WHERE model_id = 'ph';
CALL mysql.ml_drop_model_registration('ph');
CALL mysql.ml_drop_sm_secret_registration('s');

-- Templates and paths need no stored function; nested and quoted keys.
CALL mysql.ml_create_model_registration('t', '{{endpoint}}/v1/embeddings', 'custom', 'text_embedding', 'test-8', NULL, NULL, NULL, 'json:{"model":"{{model}}","input":"passage: {{input}}"}', 'path:$."data"[0].embedding');
SELECT VECTOR_DIM(mysql.ml_embedding('t', 'a "text"')) AS dimensions;
--@ last BODY
CALL mysql.ml_alter_model_registration('t', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'path:$.data[1].embedding');
SELECT mysql.ml_embedding('t', 'x');
CALL mysql.ml_alter_model_registration('t', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'path:$.model');
SELECT mysql.ml_embedding('t', 'x');
CALL mysql.ml_drop_model_registration('t');

-- Two models that differ only in their id are two models.
CALL mysql.ml_create_model_registration('test-3', '{{endpoint}}/v1/embeddings', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"model":"{{model}}","input":"{{input}}"}', 'path:$.data[0].embedding');
CALL mysql.ml_create_model_registration('test-5', '{{endpoint}}/v1/embeddings', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"model":"{{model}}","input":"{{input}}"}', 'path:$.data[0].embedding');
SELECT VECTOR_DIM(mysql.ml_embedding('test-3', 'same text')) AS three, VECTOR_DIM(mysql.ml_embedding('test-5', 'same text')) AS five;
CALL mysql.ml_drop_model_registration('test-3');
CALL mysql.ml_drop_model_registration('test-5');
-- Altering a model, even to what it was, forgets its vectors: a redefined function may give others.
CREATE FUNCTION redefined(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR('[1]');
CALL mysql.ml_create_model_registration('re', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'cymbal_text_input_transform', 'redefined');
SELECT VECTOR_TO_STRING(mysql.ml_embedding('re', 'x')) AS v;
DROP FUNCTION redefined;
CREATE FUNCTION redefined(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR('[2]');
CALL mysql.ml_alter_model_registration('re', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_TO_STRING(mysql.ml_embedding('re', 'x')) AS v;
CALL mysql.ml_drop_model_registration('re');

-- What a transform may get wrong.
CREATE FUNCTION one_parameter(model_id VARCHAR(100)) RETURNS JSON DETERMINISTIC RETURN '{}';
CREATE FUNCTION returns_int(model_id VARCHAR(100), input_text TEXT) RETURNS INT DETERMINISTIC RETURN 1;
CREATE FUNCTION not_a_vector(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN x'0102030405';
CREATE FUNCTION null_vector(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN NULL;
CREATE FUNCTION nan_vector(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN x'0000c07f';
CALL mysql.ml_create_model_registration('w', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'one_parameter', 'not_a_vector');
CALL mysql.ml_create_model_registration('w', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'returns_int', 'not_a_vector');
CALL mysql.ml_create_model_registration('w', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'cymbal_text_input_transform', 'cymbal_text_input_transform');
CALL mysql.ml_create_model_registration('w', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'cymbal_text_input_transform', 'not_a_vector');
SELECT mysql.ml_embedding('w', 'x');
CALL mysql.ml_alter_model_registration('w', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'null_vector');
SELECT mysql.ml_embedding('w', 'x') IS NULL;
CALL mysql.ml_alter_model_registration('w', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'nan_vector');
SELECT mysql.ml_embedding('w', 'x');
DROP FUNCTION nan_vector;
SELECT mysql.ml_embedding('w', 'y');
-- A function of the same name in two schemas has to be named in full.
CREATE DATABASE cymbal2;
CREATE FUNCTION cymbal2.headers(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN '{}';
CALL mysql.ml_create_model_registration('w2', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, 'headers', NULL, NULL);
-- A transform that calls a model would never end.
CREATE FUNCTION recursive_headers(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x', HEX(mysql.ml_embedding('h', 'x')));
CALL mysql.ml_create_model_registration('w2', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, 'recursive_headers', NULL, NULL);
SELECT mysql.ml_predict_row('w2', '{}');
-- Also when the model's vector is in the cache.
SELECT VECTOR_DIM(mysql.ml_embedding('h', 'x')) AS dimensions;
SELECT mysql.ml_predict_row('w2', '{}');
CALL mysql.ml_drop_model_registration('w2');
CALL mysql.ml_drop_model_registration('w');
CALL mysql.ml_drop_model_registration('h');
DROP DATABASE cymbal;
DROP DATABASE cymbal2;
