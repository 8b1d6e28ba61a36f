-- Models: create, alter, drop, list; positional and named; what is refused.
CALL mysql.ml_create_model_registration('emb', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
SELECT model_id, model_provider, model_type, model_qualified_name, model_auth_type, definer, options FROM mysql.cloudsql_ml_models;
SELECT JSON_VALUE(mysql.ml_list_registered_model('emb'), '$.model_request_url') AS url, JSON_TYPE(mysql.ml_list_registered_model('emb')) AS type;
SELECT JSON_KEYS(mysql.ml_list_registered_model('emb')) AS columns_of_the_table;

-- An id is given once.
CALL mysql.ml_create_model_registration('emb', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- Ids tell case and accents apart.
CALL mysql.ml_create_model_registration('EMB', NULL, 'DUMMY', 'TEXT_EMBEDDING', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT model_id, model_provider, model_type FROM mysql.cloudsql_ml_models ORDER BY model_id;
CALL mysql.ml_drop_model_registration('EMB');

-- alter: NULL keeps, '' clears.
CALL mysql.ml_alter_model_registration('emb', NULL, NULL, NULL, 'test-4', NULL, NULL, NULL, NULL, NULL);
SELECT model_request_url IS NOT NULL AS kept, model_qualified_name FROM mysql.cloudsql_ml_models;
CALL mysql.ml_alter_model_registration('emb', NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_alter_model_registration('emb', '', 'dummy', NULL, '', NULL, NULL, NULL, NULL, NULL);
SELECT model_request_url, model_provider, model_qualified_name FROM mysql.cloudsql_ml_models;
CALL mysql.ml_alter_model_registration('absent', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_drop_model_registration('emb');
CALL mysql.ml_drop_model_registration('emb');
SELECT mysql.ml_list_registered_model('emb');

-- Loadable functions: positional, shortened, named in any order.
SELECT ml_create_model_registration('p', NULL, 'dummy') AS id;
DO ml_create_model_registration('open_ai' AS model_provider, 'n' AS model_id, 'test-8' AS model_qualified_name, 'text_embedding' AS model_type);
SELECT model_id, model_provider, model_type, model_qualified_name FROM mysql.cloudsql_ml_models ORDER BY model_id;
SELECT JSON_VALUE(ml_list_registered_model('p' AS model_id), '$.model_provider') AS provider;
DO ml_drop_model_registration('p'), ml_drop_model_registration('n' AS model_id);
DO ml_create_model_registration('x' AS model_id, 'dummy' AS provider, 'test' AS model_type);
DO ml_create_model_registration('x' AS model_id, 'y' AS model_id);
DO ml_create_model_registration('dummy' AS model_provider);
DO ml_create_model_registration();
DO ml_drop_model_registration(NULL);

-- Every refusal names the argument, the value and what is accepted.
CALL mysql.ml_create_model_registration(NULL, NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration(REPEAT('x', 101), NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration(' x', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, '{"prompt": "{{input}}"}', '$[0]');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"prompt": "{{input}}"}', '$[0]');
CALL mysql.ml_create_model_registration('x', 'localhost:8080/v1', 'open_ai', 'text_embedding', 'm', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'http://localhost:11434/api/embed', 'open_ai', 'text_embedding', 'm', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'http://localhost:11434/api/embeddings', 'open_ai', 'text_embedding', 'm', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'http://127.0.0.1:8080/api/chat', 'open_ai', 'llm', 'm', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', 'm', NULL, NULL, NULL, 'mysql.cloudsql_ml_text_embedding_input_transform', 'mysql.cloudsql_ml_text_embedding_output_transform');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'generic', 'm', NULL, NULL, NULL, 'mysql.cloudsql_ml_text_embedding_input_transform', 'mysql.cloudsql_ml_text_embedding_output_transform');
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', 'm', NULL, NULL, NULL, 'google_ml.openai_text_embedding_input_transform', 'path:$.data[0].embedding');
CALL mysql.ml_create_model_registration('x', NULL, 'nim_clip', 'llm', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('edb', NULL, 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_drop_model_registration('edb');
CALL mysql.ml_create_model_registration('edb', 'http://127.0.0.1:1/v1', 'nim_clip', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_alter_model_registration('edb', NULL, 'nim_reranking', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT model_provider, model_type, model_qualified_name FROM mysql.cloudsql_ml_models WHERE model_id = 'edb';
CALL mysql.ml_drop_model_registration('edb');
CALL mysql.ml_create_model_registration('x', NULL, 'openia', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'embedding', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', NULL, 'custom', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'not a url', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://user:password@h.example/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/v1?alt=json&api_key=abcdef', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'http://h.example/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://169.254.169.254/latest', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'file:///etc/passwd', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', NULL, NULL, NULL, 'basic', NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', NULL, NULL, NULL, 'AUTH_TYPE_SECRET_MANAGER', NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', NULL, NULL, NULL, 'secret_manager', 'absent', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', NULL, NULL, NULL, NULL, 'absent', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'generic', NULL, NULL, NULL, NULL, 'json:["{{input}}"]', 'path:$');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'nosuch', 'path:$');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'a.b.c', 'path:$');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"a":1}', 'path:$');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:["{{input}}"]', 'path:embedding');

-- A key in a place that everybody may read is refused, and not repeated.
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', 'm', 'secret_manager', 'sk-proj-AbCdEf0123456789', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', 'm', NULL, 'sk-proj-AbCdEf0123456789', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', 'sk-proj-AbCdEf0123456789', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"key": "sk-proj-AbCdEf0123456789", "text": "{{input}}"}', 'path:$');
CALL mysql.ml_create_model_registration('x', 'https://h.example/', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"auth": {"api_key": "not-like-any-known-one"}, "text": "{{input}}"}', 'path:$');
CALL mysql.ml_create_model_registration('x', NULL, 'open_ai', 'text_embedding', 'm', NULL, NULL, 'sk-proj-AbCdEf0123456789', NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'https://h.example/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_alter_model_registration('x', NULL, NULL, NULL, NULL, 'secret_manager', 'sk-proj-AbCdEf0123456789', NULL, NULL, NULL);
CALL mysql.ml_drop_model_registration('x');
SELECT mysql.ml_predict_row('sk-proj-AbCdEf0123456789', '{}');
CALL mysql.ml_create_sm_secret_registration('sk-proj-AbCdEf0123456789', 'env:OPENAI_API_KEY');
CALL mysql.ml_create_sm_secret_registration(CONCAT('sk-proj-', REPEAT('A1', 80)), 'env:OPENAI_API_KEY');
CALL mysql.ml_create_sm_secret_registration('x', 'env:sk-proj-AbCdEf0123456789');
CALL mysql.ml_create_sm_secret_registration('x', 'file:sk-proj-AbCdEf0123456789');
CALL mysql.ml_create_secret('sk-proj-AbCdEf0123456789', 'openai');
CALL mysql.ml_alter_secret('sk-proj-AbCdEf0123456789', 'openai');
CALL mysql.ml_drop_sm_secret_registration('sk-proj-AbCdEf0123456789');
SELECT COUNT(*) AS registered FROM mysql.cloudsql_ml_models WHERE model_id = 'x';

-- Options.
CALL mysql.ml_create_model_registration('o', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('o', '{"dimensions": 16, "timeout_ms": 5000}');
CALL mysql.ml_set_model_options('o', JSON_OBJECT('timeout_ms', NULL, 'max_retries', 0));
SELECT options FROM mysql.cloudsql_ml_models;
SELECT VECTOR_DIM(mysql.ml_embedding('o', 'text')) AS dimensions;
CALL mysql.ml_set_model_options('o', '{"dimension": 16}');
CALL mysql.ml_set_model_options('o', '{"dimensions": 0}');
CALL mysql.ml_set_model_options('o', '{"dimensions": "16"}');
CALL mysql.ml_set_model_options('o', '[]');
CALL mysql.ml_set_model_options('o', 'nonsense');
CALL mysql.ml_set_model_options('o', NULL);
CALL mysql.ml_set_model_options('absent', '{}');
CALL mysql.ml_set_model_options('o', '{"dimensions": null, "max_retries": null}');
SELECT options FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_model_registration('o');

-- A registration is its own transaction and leaves the caller's alone.
CREATE DATABASE reg;
CREATE TABLE reg.t (a INT) ENGINE = InnoDB;
START TRANSACTION;
INSERT INTO reg.t VALUES (1);
CALL mysql.ml_create_model_registration('tx', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
ROLLBACK;
SELECT COUNT(*) AS rows_of_the_caller FROM reg.t;
SELECT COUNT(*) AS registrations FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_model_registration('tx');
DROP DATABASE reg;
