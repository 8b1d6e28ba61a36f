-- Google Secret Manager.
--@ secret projects/p/secrets/openai/versions/latest
--@ secret projects/p/locations/europe-west1/secrets/openai/versions/2
--@ secret projects/p/secrets/broken-crc/versions/1
CALL mysql.ml_create_sm_secret_registration('latest', 'projects/p/secrets/openai/versions/latest');
CALL mysql.ml_create_sm_secret_registration('regional', 'projects/p/locations/europe-west1/secrets/openai/versions/2');
CALL mysql.ml_create_sm_secret_registration('broken', 'projects/p/secrets/broken-crc/versions/1');
CALL mysql.ml_create_sm_secret_registration('absent', 'projects/p/secrets/absent/versions/1');
CALL mysql.ml_create_model_registration('latest', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'latest', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('regional', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'regional', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('broken', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'broken', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('absent', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'absent', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('latest', 'a text')) AS dimensions;
--@ last header authorization
SELECT VECTOR_DIM(mysql.ml_embedding('regional', 'a text')) AS dimensions;
--@ last header authorization
SELECT mysql.ml_embedding('broken', 'a text');
SELECT mysql.ml_embedding('absent', 'a text');
-- Without the right to it the error names the role.
CALL mysql.ml_alter_sm_secret_registration('absent', 'projects/p/secrets/forbidden/versions/1');
SELECT mysql.ml_embedding('absent', 'a text');
-- A value is read once and used for secret_ttl_ms: one request a call from here on.
--@ requests
SELECT VECTOR_DIM(mysql.ml_embedding('latest', 'one')) AS dimensions;
SELECT VECTOR_DIM(mysql.ml_embedding('latest', 'two')) AS dimensions;
--@ requests
CALL mysql.ml_set_setting('secret_ttl_ms', '0');
SELECT VECTOR_DIM(mysql.ml_embedding('latest', 'three')) AS dimensions;
--@ requests
CALL mysql.ml_set_setting('secret_ttl_ms', NULL);
-- The path is no way to another host, to which the server's Google token would be sent.
CALL mysql.ml_create_sm_secret_registration('evil', 'projects/p/locations/x@evil.example#/secrets/s/versions/1');
CALL mysql.ml_create_sm_secret_registration('evil', 'projects/p/locations/evil.example/secrets/s/versions/1');
-- Another project or location is another model: its texts are sent again.
CALL mysql.ml_create_model_registration('place', NULL, 'google', 'text_embedding', 'text-embedding-005', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('place', 'a text')) AS dimensions;
CALL mysql.ml_set_setting('google_project', 'other-project');
SELECT VECTOR_DIM(mysql.ml_embedding('place', 'a text')) AS dimensions;
--@ last PATH
CALL mysql.ml_set_setting('google_project', NULL);
-- An identity other than the server's: a secret that holds a credentials file.
CALL mysql.ml_create_sm_secret_registration('sa', 'file:service-account.json');
CALL mysql.ml_create_model_registration('own-identity', NULL, 'google', 'text_embedding', 'text-embedding-005', 'auth_type_cloudsql_service_agent_iam', 'sa', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('own-identity', 'a text')) AS dimensions;
CALL mysql.ml_alter_sm_secret_registration('sa', 'file:endpoint-key');
SELECT mysql.ml_embedding('own-identity', 'another text');
DELETE FROM mysql.cloudsql_ml_models;
DELETE FROM mysql.cloudsql_ml_secrets;
