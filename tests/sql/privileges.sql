-- Who may do what: MySQL's own privileges decide.
CREATE DATABASE priv;
CREATE TABLE priv.secret_data (v TEXT);
INSERT INTO priv.secret_data VALUES ('only for root');
CREATE USER nothing@localhost, caller@localhost, by_role@localhost, reader@localhost, registrar@localhost, admin@localhost;
GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO caller@localhost;
GRANT `ml_user` TO by_role@localhost;
SET DEFAULT ROLE ALL TO by_role@localhost;
GRANT SELECT ON mysql.cloudsql_ml_models TO reader@localhost;
GRANT SELECT ON mysql.cloudsql_ml_secrets TO reader@localhost;
CREATE DATABASE app;
GRANT ALL ON app.* TO registrar@localhost;
GRANT EXECUTE ON PROCEDURE mysql.ml_create_model_registration TO registrar@localhost;
GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO registrar@localhost;
GRANT `ml_admin` TO admin@localhost;
SET DEFAULT ROLE ALL TO admin@localhost;
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- No right at all: not by the routine, not by the loadable function, not by the table.
--@ user nothing
SELECT mysql.ml_embedding('d', 'x');
SELECT ml_embedding('d', 'x');
SELECT ml_list_registered_model('d');
SELECT ml_list_settings();
CALL mysql.ml_create_model_registration('n', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
DO ml_create_model_registration('n', NULL, 'dummy');
DO ml_alter_model_registration('d', NULL, 'dummy');
DO ml_drop_model_registration('d');
DO ml_set_model_options('d', '{}');
DO ml_create_sm_secret_registration('s', 'env:OPENAI_API_KEY');
DO ml_create_secret('s', 'k');
DO ml_alter_secret('s', 'k');
CALL mysql.ml_create_secret('s', 'k');
DO ml_set_secret_options('s', '{}');
DO ml_set_setting('timeout_ms', '1');
SELECT * FROM mysql.cloudsql_ml_models;
-- Arithmetic on vectors is free.
SELECT cosine_distance(STRING_TO_VECTOR('[1,2]'), STRING_TO_VECTOR('[1,2]')) < 1e-9 AS same;

-- EXECUTE on one routine is enough for it, and for nothing else.
--@ user caller
SELECT VECTOR_DIM(mysql.ml_embedding('d', 'x')) AS dim;
SELECT mysql.ml_predict_row('d', '{}');
SELECT mysql.ml_image_embedding('d', 'x', NULL);
SELECT ml_image_embedding('d', x'ffd8ff');
SELECT mysql.ml_generate('d', 'x', NULL);
SELECT ml_generate('d', 'x');
SELECT ml_embedding('d', 'x');
SELECT * FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_model_registration('d');

-- By role.
--@ user by_role
SELECT CURRENT_ROLE(), VECTOR_DIM(mysql.ml_embedding('d', 'x')) AS dim;
SELECT JSON_VALUE(mysql.ml_list_registered_model('d'), '$.model_provider') AS provider;
-- Refused by the model, not by the server.
SELECT ml_generate('d', 'x');
CALL mysql.ml_create_model_registration('n', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SET ROLE NONE;
SELECT mysql.ml_embedding('d', 'x');

-- SELECT on the registry is no right to call: EXECUTE on the routine decides, for a bare call too.
--@ user reader
SELECT VECTOR_DIM(ml_embedding('d', 'x')) AS dim;
SELECT mysql.ml_embedding('d', 'x');
DO ml_drop_model_registration('d');

-- ml_admin registers; its active role counts, also for a bare call.
--@ user admin
CALL mysql.ml_create_model_registration('by-admin', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT model_id, definer FROM mysql.cloudsql_ml_models ORDER BY model_id;
SELECT ml_drop_model_registration('by-admin') AS dropped;
SELECT VECTOR_DIM(ml_embedding('d', 'x')) AS dim;
INSERT INTO mysql.cloudsql_ml_models (model_id, model_provider, model_type, definer) VALUES ('forged', 'dummy', 'text_embedding', 'root@localhost');
-- Without an active role the procedure is refused. In a bare call all roles that were granted count: the server does
-- not tell which are active, and the account may activate them itself.
SET ROLE NONE;
CALL mysql.ml_create_model_registration('by-admin', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ml_create_model_registration('by-admin', NULL, 'dummy') AS registered;
SELECT ml_drop_model_registration('by-admin') AS dropped;

-- A registrant's functions run with the registrant's rights: they cannot read what it may not.
--@ user registrar
CREATE FUNCTION app.spy(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC READS SQL DATA SQL SECURITY INVOKER RETURN (SELECT JSON_OBJECT('x-stolen', v) FROM priv.secret_data);
CREATE FUNCTION app.who(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC SQL SECURITY INVOKER RETURN JSON_OBJECT('x-user', CURRENT_USER());
CALL mysql.ml_create_model_registration('spy', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, 'app.spy', NULL, NULL);
CALL mysql.ml_create_model_registration('who', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, 'app.who', NULL, NULL);
SELECT mysql.ml_embedding('spy', 'x');
-- Also when an administrator calls the model.
--@ user root
SELECT mysql.ml_embedding('spy', 'as root');
SELECT ml_embedding('spy', 'as root, bare');
SELECT VECTOR_DIM(mysql.ml_embedding('who', 'as root')) AS dim;
--@ last header x-user
-- And when the registration itself is run by somebody else in the registrant's name.
--@ user registrar
CREATE TABLE app.trap (a INT);
CREATE PROCEDURE app.trap_procedure() SQL SECURITY DEFINER CALL mysql.ml_create_model_registration('trapped', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, 'app.spy', NULL, NULL);
--@ user root
CALL app.trap_procedure();
SELECT model_id, definer FROM mysql.cloudsql_ml_models ORDER BY model_id;
SELECT mysql.ml_embedding('trapped', 'x');
-- A function the registrant may not execute cannot be named.
CREATE FUNCTION priv.get_key(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC READS SQL DATA RETURN (SELECT JSON_OBJECT('x-stolen', v) FROM priv.secret_data);
--@ user registrar
CALL mysql.ml_create_model_registration('thief', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, 'priv.get_key', NULL, NULL);
-- Whoever alters a model becomes its definer and so needs its functions.
--@ user root
CALL mysql.ml_create_model_registration('roots', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, 'priv.get_key', NULL, NULL);
GRANT EXECUTE ON PROCEDURE mysql.ml_alter_model_registration TO registrar@localhost;
--@ user registrar
CALL mysql.ml_alter_model_registration('roots', '{{endpoint}}/echo', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
--@ user root
SELECT definer, model_request_url LIKE '%/v1/embeddings' AS unchanged FROM mysql.cloudsql_ml_models WHERE model_id = 'roots';
-- A definer whose password has expired: the caller is told whose.
ALTER USER registrar@localhost PASSWORD EXPIRE;
SELECT mysql.ml_embedding('who', 'after the password expired');
-- A definer who is gone.
CALL mysql.ml_drop_model_registration('spy');
CALL mysql.ml_drop_model_registration('trapped');
DROP USER registrar@localhost;
SELECT mysql.ml_embedding('who', 'after the drop');
-- A definer is exactly one account, also where several of its name exist.
CREATE USER multi@'%';
GRANT ALL ON app.* TO multi@'%';
GRANT `ml_admin` TO multi@'%';
SET DEFAULT ROLE ALL TO multi@'%';
--@ user multi
CREATE FUNCTION app.multi_who(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC SQL SECURITY INVOKER RETURN JSON_OBJECT('x-user', CURRENT_USER());
CALL mysql.ml_create_model_registration('multi', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, 'app.multi_who', NULL, NULL);
--@ user root
CREATE USER multi@localhost, multi@'local%';
SELECT VECTOR_DIM(mysql.ml_embedding('multi', 'x')) AS dim;
--@ last header x-user
DROP USER multi@'%';
SELECT mysql.ml_embedding('multi', 'y');
DROP USER multi@localhost, multi@'local%';
CALL mysql.ml_drop_model_registration('multi');
-- The locked account cannot be used to log in.
SELECT account_locked, plugin FROM mysql.user WHERE user = 'mysql_ml';
-- Proxy and authorities of a model are the network policy's matter: they need the right to change settings.
GRANT EXECUTE ON PROCEDURE mysql.ml_set_model_options TO caller@localhost;
--@ user caller
CALL mysql.ml_set_model_options('who', '{"timeout_ms": 5000}');
CALL mysql.ml_set_model_options('who', '{"proxy": "http://127.0.0.1:9"}');
DO ml_set_model_options('who', '{"ca_file": "/etc/hostname"}');
CALL mysql.ml_set_model_options('who', '{"proxy": null, "timeout_ms": null}');
--@ user root
CALL mysql.ml_set_model_options('who', '{"proxy": "http://127.0.0.1:9"}');
CALL mysql.ml_set_model_options('who', '{"proxy": null}');
-- A call without the right changes nothing, nor what is remembered of the registry: that is not read anew by it.
CALL mysql.ml_set_setting('registry_ttl_ms', '3600000');
CALL mysql.ml_create_model_registration('kept', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('kept', '{"dimensions": 8}');
--@ user caller
SELECT VECTOR_DIM(mysql.ml_embedding('kept', 'one')) AS dim;
--@ user root
UPDATE mysql.cloudsql_ml_models SET options = '{"dimensions": 16}' WHERE model_id = 'kept';
--@ user caller
DO ml_drop_model_registration('kept');
DO ml_set_setting('timeout_ms', '1');
SELECT VECTOR_DIM(mysql.ml_embedding('kept', 'two')) AS dim;
--@ user root
CALL mysql.ml_set_setting('registry_ttl_ms', NULL);
--@ user caller
SELECT VECTOR_DIM(mysql.ml_embedding('kept', 'three')) AS dim;
--@ user root
CALL mysql.ml_drop_model_registration('kept');
CALL mysql.ml_drop_model_registration('who');
CALL mysql.ml_drop_model_registration('roots');
CALL mysql.ml_drop_model_registration('d');
DROP USER nothing@localhost, caller@localhost, by_role@localhost, reader@localhost, admin@localhost;
DROP DATABASE app;
DROP DATABASE priv;
SHOW GRANTS FOR ml_user;
SHOW GRANTS FOR ml_admin;
SHOW GRANTS FOR mysql_ml@localhost;
