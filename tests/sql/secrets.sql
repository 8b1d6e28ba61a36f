-- Secrets: registered by path, read at use, sent as Authorization: Bearer, never shown.
CALL mysql.ml_create_sm_secret_registration('env', 'env:MYSQL_ML_SECRET_TEST');
CALL mysql.ml_create_sm_secret_registration('file', 'file:endpoint-key');
CALL mysql.ml_create_sm_secret_registration('google', 'projects/p/secrets/s/versions/1');
SELECT secret_id, secret_path, options, definer FROM mysql.cloudsql_ml_secrets ORDER BY secret_id;
CALL mysql.ml_create_sm_secret_registration('env', 'env:MYSQL_ML_SECRET_TEST');
CALL mysql.ml_create_sm_secret_registration('x', 'env:PATH');
CALL mysql.ml_create_sm_secret_registration('x', 'file:../etc/passwd');
CALL mysql.ml_create_sm_secret_registration('x', 'file:/etc/passwd');
CALL mysql.ml_create_sm_secret_registration('x', 'sk-pasted-by-mistake');
CALL mysql.ml_create_sm_secret_registration('x', NULL);
CALL mysql.ml_create_sm_secret_registration('x', 'keyring:');
CALL mysql.ml_create_sm_secret_registration('x', 'keyring:a/../b');
CALL mysql.ml_create_sm_secret_registration('x', 'keyring:no~');
CALL mysql.ml_alter_sm_secret_registration('absent', 'env:OPENAI_API_KEY');
CALL mysql.ml_drop_sm_secret_registration('absent');

-- The keyring, which this server lacks: nothing is registered, and the value is not repeated.
CALL mysql.ml_create_secret('ring', 'sk-5ecret-value');
DO ml_create_secret('ring', 'sk-5ecret-value');
CALL mysql.ml_create_secret('env', 'sk-5ecret-value');
CALL mysql.ml_alter_secret('absent', 'sk-5ecret-value');
CALL mysql.ml_alter_secret('env', 'sk-5ecret-value');
CALL mysql.ml_create_secret('ring', NULL);
CALL mysql.ml_create_secret('ring', 'two\nlines');
DO ml_create_secret('sk-5ecret-value', 'ring' AS secret_id);
CALL mysql.ml_create_sm_secret_registration('ring', 'keyring:ring');
CALL mysql.ml_alter_secret('ring', 'sk-5ecret-value');
CALL mysql.ml_create_model_registration('m-ring', '{{endpoint}}/echo', 'custom', 'generic', NULL, 'auth_type_secret_manager', 'ring', NULL, NULL, NULL);
SELECT mysql.ml_predict_row('m-ring', '{}');
CALL mysql.ml_drop_model_registration('m-ring');
CALL mysql.ml_drop_sm_secret_registration('ring');

CALL mysql.ml_create_model_registration('m-env', '{{endpoint}}/echo', 'custom', 'generic', NULL, 'auth_type_secret_manager', 'env', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('m-file', '{{endpoint}}/echo', 'custom', 'generic', NULL, 'AUTH_TYPE_SECRET_MANAGER', 'file', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('m-google', '{{endpoint}}/echo', 'custom', 'generic', NULL, 'secret_manager', 'google', NULL, NULL, NULL);
-- What an endpoint repeats of the key is blotted out.
SELECT JSON_VALUE(mysql.ml_predict_row('m-env', '{}'), '$.headers.authorization') AS shown;
--@ last header authorization
SELECT JSON_VALUE(mysql.ml_predict_row('m-file', '{}'), '$.headers.authorization') AS shown;
--@ last header authorization
SELECT mysql.ml_predict_row('m-google', '{}');
SELECT SUM(CAST(mysql.ml_list_registered_model(model_id) AS CHAR) LIKE '%5ecret%') AS keys_in_views FROM mysql.cloudsql_ml_models;

-- A secret that is bound to a place goes nowhere else: not by registration, not by alter, not by a row written past both.
-- A binding that a registered model breaks is refused, and changes nothing.
CALL mysql.ml_set_secret_options('env', '{"url_prefix": "https://api.openai.com/"}');
SELECT options FROM mysql.cloudsql_ml_secrets WHERE secret_id = 'env';
SELECT mysql.ml_predict_row('m-env', '{}') IS NOT NULL AS answered;
CALL mysql.ml_set_setting('registry_ttl_ms', '0');
UPDATE mysql.cloudsql_ml_secrets SET options = '{"url_prefix": "https://api.openai.com/"}' WHERE secret_id = 'env';
SELECT mysql.ml_predict_row('m-env', '{}');
CALL mysql.ml_set_setting('registry_ttl_ms', NULL);
CALL mysql.ml_create_model_registration('elsewhere', '{{endpoint}}/echo', 'custom', 'generic', NULL, 'secret_manager', 'env', NULL, NULL, NULL);
CALL mysql.ml_alter_model_registration('m-env', 'https://api.openai.com.example/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('bound', NULL, 'open_ai', 'generic', 'gpt-x', 'secret_manager', 'env', NULL, NULL, NULL);
CALL mysql.ml_drop_model_registration('bound');
CALL mysql.ml_set_secret_options('env', '{"url_prefix": "{{endpoint}}/echo"}');
SELECT mysql.ml_predict_row('m-env', '{}') IS NOT NULL AS answered;
--@ last header authorization
CALL mysql.ml_set_secret_options('env', '{"prefix": "https://h/"}');
CALL mysql.ml_set_secret_options('env', '{"url_prefix": "api.openai.com"}');
CALL mysql.ml_set_secret_options('absent', '{}');
CALL mysql.ml_set_secret_options('env', '{"url_prefix": null}');
SELECT options FROM mysql.cloudsql_ml_secrets WHERE secret_id = 'env';

-- A secret in use is not dropped.
CALL mysql.ml_drop_sm_secret_registration('env');
-- Unset and missing sources.
CALL mysql.ml_alter_sm_secret_registration('env', 'env:OPENAI_API_KEY');
SELECT mysql.ml_predict_row('m-env', '{}');
CALL mysql.ml_alter_sm_secret_registration('file', 'file:absent');
SELECT mysql.ml_predict_row('m-file', '{}') IS NULL AS reached;

CALL mysql.ml_drop_model_registration('m-env');
CALL mysql.ml_drop_model_registration('m-file');
CALL mysql.ml_drop_model_registration('m-google');
CALL mysql.ml_drop_sm_secret_registration('env');
CALL mysql.ml_drop_sm_secret_registration('file');
CALL mysql.ml_drop_sm_secret_registration('google');
