-- Bring your own model: a service with JSON of its own, by functions of one's own.
CREATE DATABASE walk;
USE walk;
CALL mysql.ml_create_sm_secret_registration('cymbal_secret', 'file:endpoint-key');

-- The service takes {"prompt": ["text"]} and answers [[f, ...]].
CREATE FUNCTION cymbal_in(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('prompt', JSON_ARRAY(input_text));
CREATE FUNCTION cymbal_out(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(CAST(JSON_EXTRACT(response_json, '$[0]') AS CHAR));
CREATE FUNCTION cymbal_headers(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-team', 'search', 'x-model', mysql.ml_model_qualified_name_of(model_id));
-- The functions can be tried before.
SELECT cymbal_in('m', 'She said "hello"') AS request, VECTOR_TO_STRING(cymbal_out('m', '[[1, 0.5]]')) AS vector;

CALL mysql.ml_create_model_registration('cymbal', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', 'cymbal-1', 'auth_type_secret_manager', 'cymbal_secret', 'walk.cymbal_headers', 'walk.cymbal_in', 'walk.cymbal_out');
SELECT model_id, model_provider, model_type, header_gen_fn, input_transform_fn, output_transform_fn, definer FROM mysql.cloudsql_ml_models;
SELECT VECTOR_DIM(mysql.ml_embedding('cymbal', 'She said "hello"')) AS dimensions;
--@ last BODY
--@ last header x-team
--@ last header x-model
--@ last header authorization
SELECT JSON_EXTRACT(mysql.ml_validate_model('cymbal'), '$.ok', '$.dimensions') AS tried;

-- Used by an account that sees neither functions nor registration.
CREATE USER walker@localhost;
GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO walker@localhost;
--@ user walker
SELECT VECTOR_DIM(mysql.ml_embedding('cymbal', 'another text')) AS dimensions;
SELECT walk.cymbal_in('m', 'x');
SELECT mysql.ml_list_registered_model('cymbal');
--@ user root
DROP USER walker@localhost;

-- The same by a template and a path.
CALL mysql.ml_create_model_registration('cymbal-template', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', NULL, 'auth_type_secret_manager', 'cymbal_secret', NULL, 'json:{"prompt":["{{input}}"]}', 'path:$[0]');
SELECT mysql.ml_embedding('cymbal', 'same') = mysql.ml_embedding('cymbal-template', 'same') AS same;

-- A generic service: the body and the answer are the caller's, the headers those of a function.
CREATE FUNCTION cymbal_predict_headers(model_id TEXT, input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-n', JSON_EXTRACT(input, '$.n'));
CALL mysql.ml_create_model_registration('cymbal-predict', '{{endpoint}}/echo', NULL, NULL, NULL, 'auth_type_secret_manager', 'cymbal_secret', 'walk.cymbal_predict_headers', NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('cymbal-predict', '{"n": 7}'), '$.headers."x-n"', '$.body', '$.headers.authorization') AS answer;

-- A change of the functions: alter, and the texts are sent again.
CREATE FUNCTION cymbal_in_short(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('prompt', JSON_ARRAY(LEFT(input_text, 8)));
CALL mysql.ml_alter_model_registration('cymbal', NULL, NULL, NULL, NULL, NULL, NULL, '', 'walk.cymbal_in_short', NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('cymbal', 'She said "hello"')) AS dimensions;
--@ last BODY
--@ last header x-team

-- What goes wrong on the way.
CREATE FUNCTION cymbal_json(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(JSON_EXTRACT(response_json, '$[0]'));
CALL mysql.ml_alter_model_registration('cymbal', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'walk.cymbal_json');
SELECT mysql.ml_embedding('cymbal', 'JSON is no text here');
CALL mysql.ml_alter_model_registration('cymbal', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'walk.absent');
CALL mysql.ml_alter_model_registration('cymbal', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL);
CALL mysql.ml_create_model_registration('half', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('generic', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, NULL, 'walk.cymbal_in', 'walk.cymbal_out');

CALL mysql.ml_drop_model_registration('cymbal');
CALL mysql.ml_drop_model_registration('cymbal-template');
CALL mysql.ml_drop_model_registration('cymbal-predict');
CALL mysql.ml_drop_sm_secret_registration('cymbal_secret');
DROP DATABASE walk;
