-- Settings: built-in defaults, set and put back by procedure, unknown ones refused.
SELECT mysql.ml_list_settings() AS defaults;
CALL mysql.ml_set_setting('timeout_ms', '5000');
SELECT JSON_VALUE(mysql.ml_list_settings(), '$.timeout_ms') AS timeout_ms;
SELECT * FROM mysql.cloudsql_ml_settings;
CALL mysql.ml_set_setting('timeout_ms', NULL);
SELECT JSON_VALUE(mysql.ml_list_settings(), '$.timeout_ms') AS timeout_ms;
CALL mysql.ml_set_setting('time_out', '5000');
CALL mysql.ml_set_setting('timeout_ms', 'soon');
CALL mysql.ml_set_setting('timeout_ms', '0');
CALL mysql.ml_set_setting('egress_allowlist', 'a b/c');
CALL mysql.ml_set_setting('proxy', 'nonsense nonsense');
CALL mysql.ml_set_setting('proxy', 'socks5://proxy.example:1080');
CALL mysql.ml_set_setting('proxy', 'http://user:password@proxy.example:3128');
CALL mysql.ml_set_setting('proxy', 'none');
SELECT JSON_VALUE(mysql.ml_list_settings(), '$.proxy') AS proxy;
CALL mysql.ml_set_setting('proxy', NULL);
CALL mysql.ml_set_setting('ca_file', 'relative.pem');
CALL mysql.ml_set_setting(NULL, '1');
INSERT INTO mysql.cloudsql_ml_settings VALUES ('time_out', '1');
-- A value that was written past the procedure is not silently ignored.
CALL mysql.ml_create_model_registration('m', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_setting('registry_ttl_ms', '0');
INSERT INTO mysql.cloudsql_ml_settings VALUES ('timeout_ms', 'soon');
SELECT mysql.ml_embedding('m', 'x');
CALL mysql.ml_set_setting('timeout_ms', NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'x')) AS dimensions;

-- The allowlist narrows where requests go.
CALL mysql.ml_create_model_registration('local', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('local', 'before')) AS dimensions;
CALL mysql.ml_set_setting('egress_allowlist', 'api.openai.com, .example.com');
SELECT mysql.ml_embedding('local', 'after');
CALL mysql.ml_create_model_registration('other', 'https://evil.example.org/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('listed', 'https://ai.example.com/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_setting('egress_allowlist', 'http://127.0.0.0/8');
SELECT VECTOR_DIM(mysql.ml_embedding('local', 'after')) AS dimensions;
CALL mysql.ml_set_setting('egress_allowlist', NULL);
CALL mysql.ml_drop_model_registration('listed');
CALL mysql.ml_drop_model_registration('local');
CALL mysql.ml_drop_model_registration('m');
CALL mysql.ml_set_setting('registry_ttl_ms', NULL);

-- A certificate file is looked at when it is named.
CALL mysql.ml_set_setting('ca_file', '/nonexistent/ca.pem');
CALL mysql.ml_set_setting('ca_file', '/etc/hostname');
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('d', '{"ca_file": "/nonexistent/ca.pem"}');
CALL mysql.ml_set_model_options('d', '{"ca_file": "/etc/hostname"}');
CALL mysql.ml_set_model_options('d', '{"ca_file": "relative.pem"}');
CALL mysql.ml_set_model_options('d', '{"ca_file": null}');
CALL mysql.ml_drop_model_registration('d');
CALL mysql.ml_set_setting('secret_ttl_ms', '-1');
