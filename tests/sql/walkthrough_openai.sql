-- From nothing to an answer with OpenAI: a secret, a chat model, an embedding model, and the way back.
CALL mysql.ml_create_sm_secret_registration('openai_secret', 'file:endpoint-key');
CALL mysql.ml_set_secret_options('openai_secret', '{"url_prefix": "{{endpoint}}/openai/"}');

-- The chat. The body names the model itself.
CALL mysql.ml_create_model_registration('gpt-4o', '{{endpoint}}/openai/v1/chat/completions', 'open_ai', 'generic', NULL, 'auth_type_secret_manager', 'openai_secret', NULL, NULL, NULL);
SELECT model_id, model_provider, model_type, model_qualified_name, model_auth_type, model_auth_id FROM mysql.cloudsql_ml_models;
SELECT JSON_EXTRACT(mysql.ml_list_registered_model('gpt-4o'), '$.model_id', '$.model_provider', '$.model_auth_id', '$.definer') AS listed;
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('gpt-4o', '{"model": "gpt-4o", "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "What is MySQL?"}]}'), '$.choices[0].message.content')) AS answer;
--@ last PATH
--@ last BODY
--@ last header authorization
--@ requests

-- Several things from one answer: stored, it was asked once.
CREATE DATABASE walk;
CREATE TABLE walk.answers (id INT PRIMARY KEY, question TEXT, answer JSON);
INSERT INTO walk.answers (id, question) VALUES (1, 'What is a "view"?'), (2, 'What is an index?');
UPDATE walk.answers SET answer = mysql.ml_predict_row('gpt-4o', JSON_OBJECT('model', 'gpt-4o', 'messages', JSON_ARRAY(JSON_OBJECT('role', 'user', 'content', question))));
SELECT id, answer->>'$.choices[0].message.content' AS said, answer->>'$.choices[0].finish_reason' AS ended, answer->'$.usage.total_tokens' AS tokens FROM walk.answers ORDER BY id;
--@ requests
SELECT d.a->>'$.choices[0].message.content' AS said, d.a->>'$.model' AS model FROM (SELECT mysql.ml_predict_row('gpt-4o', '{"model": "gpt-4o", "messages": [{"role": "user", "content": "once?"}]}') AS a) AS d;
--@ requests
SELECT t.said FROM JSON_TABLE(mysql.ml_predict_row('gpt-4o', '{"model": "gpt-4o", "messages": [{"role": "user", "content": "as a table"}]}'), '$.choices[*]' COLUMNS (said TEXT PATH '$.message.content')) AS t;
--@ requests

-- With a name in the registration the body need not have it.
CALL mysql.ml_alter_model_registration('gpt-4o', NULL, NULL, 'llm', 'gpt-4o-mini', NULL, NULL, NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('gpt-4o', '{"messages": [{"role": "user", "content": "Hello"}]}'), '$.model')) AS model;
--@ last BODY

-- Embeddings.
CALL mysql.ml_create_model_registration('small', '{{endpoint}}/openai/v1/embeddings', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'auth_type_secret_manager', 'openai_secret', NULL, NULL, NULL);
CREATE TABLE walk.docs (id INT PRIMARY KEY, body TEXT, v VECTOR(1536));
INSERT INTO walk.docs (id, body) VALUES (1, 'Reset a forgotten password'), (2, 'Track a parcel'), (3, 'Track another parcel');
UPDATE walk.docs SET v = mysql.ml_embedding('small', body);
SELECT id, VECTOR_DIM(v) AS dimensions FROM walk.docs ORDER BY id;
SELECT id, body FROM walk.docs ORDER BY cosine_distance(v, mysql.ml_query_embedding('small', 'Track a parcel')) LIMIT 1;
--@ last BODY
SELECT JSON_EXTRACT(mysql.ml_validate_model('small'), '$.ok', '$.capability', '$.dimensions') AS tried;
CALL mysql.ml_alter_model_registration('small', NULL, NULL, NULL, 'text-embedding-3-large', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('small', 'hello')) AS dimensions;
UPDATE walk.docs SET v = mysql.ml_embedding('small', body) WHERE id = 1;
CALL mysql.ml_set_model_options('small', '{"dimensions": 1536}');
UPDATE walk.docs SET v = mysql.ml_embedding('small', body) WHERE id = 1;

-- What goes wrong on the way.
SELECT mysql.ml_embedding('gpt-4o', 'not an embedding model');
SELECT mysql.ml_predict_row('gpt-4o', '{"message": "hello"}');
SELECT mysql.ml_embedding('small', '');
CALL mysql.ml_create_model_registration('elsewhere', '{{endpoint}}/echo', 'open_ai', 'generic', NULL, 'auth_type_secret_manager', 'openai_secret', NULL, NULL, NULL);
CALL mysql.ml_drop_sm_secret_registration('openai_secret');

CALL mysql.ml_drop_model_registration('gpt-4o');
CALL mysql.ml_drop_model_registration('small');
CALL mysql.ml_drop_sm_secret_registration('openai_secret');
SELECT mysql.ml_predict_row('gpt-4o', '{}');
DROP DATABASE walk;
