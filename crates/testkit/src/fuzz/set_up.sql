-- What the statement fuzzer works on.
CREATE DATABASE fz;
CREATE DATABASE fz_keep;
CREATE USER fz_admin@localhost;
CREATE USER fz_user@localhost;
CREATE USER fz_nobody@localhost;
GRANT ml_admin TO fz_admin@localhost;
GRANT ml_user TO fz_user@localhost;
SET DEFAULT ROLE ALL TO fz_admin@localhost, fz_user@localhost;
GRANT ALL ON fz.* TO fz_admin@localhost;
GRANT ALL ON fz.* TO fz_user@localhost;

CREATE TABLE fz.docs (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT CHARACTER SET utf8mb4, raw BLOB, n DECIMAL(20, 6), d DATETIME NULL, j JSON NULL, v VECTOR(8) NULL, w VECTOR(8) NULL, note TEXT);
INSERT INTO fz.docs (body, raw, n, d, j) VALUES ('one', x'6f6e65', 1, '2024-01-01', '[1]'), ('two', x'c328', -2.5, NULL, '{"a": null}'), (NULL, NULL, NULL, NULL, NULL), ('', '', 0, '2038-01-19 03:14:08', '"x"'), (REPEAT('long ', 2000), NULL, 99999999999999.999999, NULL, NULL), ('Öl 🐬', x'00', 3, NULL, '[]');
INSERT INTO fz.docs (body) SELECT CONCAT(a.body, ' ', b.id) FROM fz.docs a JOIN fz.docs b WHERE a.id < 3;
CREATE TABLE fz.pairs (a VARCHAR(20), b BINARY(4), body LONGTEXT, v VECTOR(8), PRIMARY KEY (a, b)) CHARACTER SET latin1;
INSERT INTO fz.pairs (a, b, body) VALUES ('x', x'00010203', 'Käse'), ('y', '', 'more'), ('z', x'ff', NULL);
CREATE TABLE fz.empty_one (id INT PRIMARY KEY, body TEXT, v VECTOR(8));
CREATE TABLE fz.`odd ``name?` (`k?` INT PRIMARY KEY, `b``ody` TEXT, `v?` VECTOR(8));
INSERT INTO fz.`odd ``name?` VALUES (1, 'odd', NULL);
CREATE TABLE fz.sink (x LONGBLOB, y TEXT, z DOUBLE);

CALL mysql.ml_set_setting('timeout_ms', '1000');
CALL mysql.ml_set_setting('max_retries', '0');
CALL mysql.ml_set_setting('registry_ttl_ms', '20');
CALL mysql.ml_create_sm_secret_registration('s_env', 'env:MYSQL_ML_SECRET_TEST');
CALL mysql.ml_create_sm_secret_registration('s_file', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('dummy', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('ok', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('key', '{{endpoint}}/auth/embeddings', 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 's_env', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/v1/chat/completions', 'open_ai', 'llm', 'chat', 'secret_manager', 's_file', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('echo', '{{endpoint}}/echo', 'custom', 'generic', NULL, 'secret_manager', 's_env', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('hang', '{{endpoint}}/hang', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('drip', '{{endpoint}}/drip', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('e503', '{{endpoint}}/status/503', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('e400', '{{endpoint}}/status/400', 'open_ai', 'llm', 'chat', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('wide', '{{endpoint}}/wrong-width/9', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('nan', '{{endpoint}}/nan', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('deep', '{{endpoint}}/deep', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('reset', '{{endpoint}}/reset', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CREATE FUNCTION fz.to_json(model_id VARCHAR(100), input TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('instances', JSON_ARRAY(input));
CREATE FUNCTION fz.fails(model_id VARCHAR(100), input TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_EXTRACT(input, '$[');
CALL mysql.ml_create_model_registration('fn', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'fz.to_json', 'path:$.body.instances');
CALL mysql.ml_create_model_registration('fails', '{{endpoint}}/echo', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'fz.fails', 'path:$.a');

-- The registry as it is healed from.
CREATE TABLE fz_keep.cloudsql_ml_models LIKE mysql.cloudsql_ml_models;
INSERT INTO fz_keep.cloudsql_ml_models SELECT * FROM mysql.cloudsql_ml_models;
CREATE TABLE fz_keep.cloudsql_ml_secrets LIKE mysql.cloudsql_ml_secrets;
INSERT INTO fz_keep.cloudsql_ml_secrets SELECT * FROM mysql.cloudsql_ml_secrets;
CREATE TABLE fz_keep.cloudsql_ml_settings LIKE mysql.cloudsql_ml_settings;
INSERT INTO fz_keep.cloudsql_ml_settings SELECT * FROM mysql.cloudsql_ml_settings;
CREATE TABLE fz_keep.cloudsql_ml_embed_configs LIKE mysql.cloudsql_ml_embed_configs;
CREATE TABLE fz_keep.cloudsql_ml_embed_progress LIKE mysql.cloudsql_ml_embed_progress;
CREATE TABLE fz_keep.cloudsql_ml_embed_failures LIKE mysql.cloudsql_ml_embed_failures;
