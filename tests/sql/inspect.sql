-- What tells about models: counters, a trial call, leaked keys.
CALL mysql.ml_reset_status();
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_alter_model_registration('m', NULL, NULL, NULL, NULL, 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'twelve bytes')) AS dimensions;
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'twelve bytes')) AS dimensions;
SELECT JSON_LENGTH(mysql.ml_predict_row('chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.choices') AS choices;
CALL mysql.ml_create_model_registration('limited', '{{endpoint}}/quota', 'open_ai', 'text_embedding', 'x', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('limited', 'x');
-- What a missing key keeps from being sent is no request, and uses up no budget.
CALL mysql.ml_create_sm_secret_registration('absent', 'env:MYSQL_ML_SECRET_ABSENT');
CALL mysql.ml_create_model_registration('keyless', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 'absent', NULL, NULL, NULL);
CALL mysql.ml_set_model_options('keyless', '{"requests_per_minute": 1, "timeout_ms": 20000}');
SELECT mysql.ml_embedding('keyless', 'x');
SELECT mysql.ml_embedding_batch('keyless', '["x", "y"]');
CALL mysql.ml_alter_sm_secret_registration('absent', 'file:endpoint-key');
SELECT VECTOR_DIM(mysql.ml_embedding('keyless', 'x')) AS dimensions;
SELECT k.id, m.calls, m.cache_hits, m.requests, m.retries, m.texts, m.tokens_in, m.tokens_out, m.errors, m.p50 > 0 AS has_latency, m.in_flight FROM JSON_TABLE(JSON_KEYS(mysql.ml_status(), '$.models'), '$[*]' COLUMNS (id VARCHAR(100) PATH '$')) k, JSON_TABLE(JSON_EXTRACT(mysql.ml_status(), CONCAT('$.models."', k.id, '"')), '$' COLUMNS (calls INT PATH '$.calls', cache_hits INT PATH '$.cache_hits', requests INT PATH '$.requests', retries INT PATH '$.retries', texts INT PATH '$.texts', tokens_in INT PATH '$.tokens_in', tokens_out INT PATH '$.tokens_out', errors JSON PATH '$.errors', p50 DOUBLE PATH '$.latency_p50_ms', in_flight INT PATH '$.in_flight')) m ORDER BY k.id;
CALL mysql.ml_reset_status();
SELECT JSON_EXTRACT(mysql.ml_status(), '$.models') AS models;

-- A trial call tells what it found, or why not.
SELECT JSON_REMOVE(mysql.ml_validate_model('m'), '$.latency_ms') AS found;
SELECT JSON_REMOVE(mysql.ml_validate_model('chat'), '$.latency_ms') AS found;
SELECT JSON_REMOVE(mysql.ml_validate_model('limited'), '$.latency_ms') AS found;
CALL mysql.ml_create_model_registration('refused', 'http://127.0.0.1:9/', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_validate_model('refused'), '$.ok') AS ok;
CALL mysql.ml_create_model_registration('echo', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT JSON_REMOVE(mysql.ml_validate_model('echo'), '$.latency_ms') AS found;
CALL mysql.ml_create_model_registration('picky', '{{endpoint}}/status/422', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT JSON_REMOVE(mysql.ml_validate_model('picky'), '$.latency_ms') AS found;
-- Where the callers name the model, or the URL is another call, no request of ours would be right: an answer is enough.
CALL mysql.ml_create_model_registration('gpt-4o', '{{endpoint}}/openai/v1/chat/completions', 'open_ai', 'generic', NULL, 'auth_type_secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_REMOVE(mysql.ml_validate_model('gpt-4o'), '$.latency_ms') AS found;
CALL mysql.ml_create_model_registration('anthropic-opus', '{{endpoint}}/anthropic/v1/messages', 'anthropic', 'generic', NULL, 'auth_type_secret_manager', 'key', 'google_ml.anthropic_claude_header_gen_fn', NULL, NULL);
SELECT JSON_REMOVE(mysql.ml_validate_model('anthropic-opus'), '$.latency_ms') AS found;
CALL mysql.ml_create_model_registration('other-call', '{{endpoint}}/echo', 'open_ai', 'generic', 'omni-moderation-latest', NULL, NULL, NULL, NULL, NULL);
SELECT JSON_REMOVE(mysql.ml_validate_model('other-call'), '$.latency_ms') AS found;
--@ last BODY
SELECT mysql.ml_validate_model('nobody');
SELECT mysql.ml_validate_model(NULL);

-- Registrations that hold what looks like a key. New ones are refused; old rows are found.
SELECT mysql.ml_audit_secrets() AS findings;
CALL mysql.ml_create_model_registration('leak', 'https://example.com/hf_AbCdEfGhIjKlMnOpQrStUv/x', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('leak', 'https://example.com/x?api_key=abcdef', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
CREATE DATABASE app;
CREATE FUNCTION app.headers(model_id VARCHAR(100), input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-api-key', 'sk-ant-api03-AbCdEf123456789');
CREATE FUNCTION app.plain(model_id VARCHAR(100), input JSON) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('x-team', 'search');
CALL mysql.ml_create_model_registration('keyed', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, 'app.headers', NULL, NULL);
CALL mysql.ml_create_model_registration('plain', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, 'app.plain', NULL, NULL);
INSERT INTO mysql.cloudsql_ml_models (model_id, model_request_url, model_provider, model_type, options, definer) VALUES ('old', 'https://example.com/?key=abcdef', 'custom', 'generic', '{"headers": {"x-api-key": "abcdef"}}', 'root@localhost');
SELECT f.* FROM JSON_TABLE(mysql.ml_audit_secrets(), '$[*]' COLUMNS (model_id VARCHAR(100) PATH '$.model_id', place VARCHAR(100) PATH '$.place', finding VARCHAR(200) PATH '$.finding')) f;
DROP FUNCTION app.headers;
SELECT f.* FROM JSON_TABLE(mysql.ml_audit_secrets(), '$[*]' COLUMNS (model_id VARCHAR(100) PATH '$.model_id', place VARCHAR(100) PATH '$.place', finding VARCHAR(200) PATH '$.finding')) f WHERE model_id = 'keyed';

-- A transform function may ask for the name of the model it is called for.
CREATE FUNCTION app.input(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('model', mysql.ml_model_qualified_name_of(model_id), 'input', input_text);
CREATE FUNCTION app.output(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(CAST(JSON_EXTRACT(response_json, '$.data[0].embedding') AS CHAR));
CALL mysql.ml_create_model_registration('named', '{{endpoint}}/v1/embeddings', 'custom', 'text_embedding', 'test-8', NULL, NULL, NULL, 'app.input', 'app.output');
SELECT VECTOR_DIM(mysql.ml_embedding('named', 'a text')) AS dimensions;
--@ last BODY
DROP FUNCTION app.input;
CREATE FUNCTION app.input(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('model', mysql.ml_model_qualified_name_of('m'), 'input', input_text);
SELECT mysql.ml_embedding('named', 'another text');

-- Who may ask.
CREATE USER nobody;
CREATE USER admin;
GRANT ml_admin TO admin;
SET DEFAULT ROLE ml_admin TO admin;
--@ user nobody
SELECT ml_status();
SELECT ml_audit_secrets();
SELECT ml_validate_model('m');
SELECT ml_generate_model_request_url('google', 'generic', 'gemini-2.5-flash');
SELECT ml_model_qualified_name_of('m');
SELECT ml_query_embedding('m', 'x');
SELECT ml_reset_status();
SELECT ml_cache_clear(NULL);
SELECT JSON_LENGTH(ml_list_model_providers()) AS providers;
--@ user admin
SELECT JSON_CONTAINS_PATH(mysql.ml_status(), 'one', '$.models') AS shown;
SELECT JSON_LENGTH(mysql.ml_audit_secrets()) > 0 AS shown;
CALL mysql.ml_reset_status();
SELECT provider FROM mysql.ml_model_providers WHERE provider = 'dummy';
SHOW WARNINGS;
SELECT COUNT(*) AS providers FROM mysql.ml_model_providers;
--@ user root
DROP USER nobody, admin;
DROP DATABASE app;
DELETE FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_sm_secret_registration('absent');
CALL mysql.ml_drop_sm_secret_registration('key');
