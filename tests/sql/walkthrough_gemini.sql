-- From nothing to an answer with Gemini on Vertex AI: the server's Google identity, no secret.
CALL mysql.ml_create_model_registration('gemini-1.0-pro', '{{endpoint}}/vertex/v1/projects/test-project/locations/us-central1/publishers/google/models/gemini-1.0-pro:streamGenerateContent', 'google', 'generic', NULL, 'auth_type_cloudsql_service_agent_iam', NULL, NULL, NULL, NULL);
SELECT model_id, model_provider, model_type, model_auth_type, model_auth_id FROM mysql.cloudsql_ml_models;
SELECT JSON_EXTRACT(mysql.ml_list_registered_model('gemini-1.0-pro'), '$.model_provider', '$.model_auth_type') AS listed;

-- The answer is a list of parts.
SELECT JSON_TYPE(mysql.ml_predict_row('gemini-1.0-pro', '{"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}')) AS type;
--@ last PATH
--@ last BODY
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('gemini-1.0-pro', '{"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}'), '$[0].candidates[0].content.parts[0].text')) AS first_part;
SELECT GROUP_CONCAT(t.part ORDER BY t.n SEPARATOR '') AS whole FROM JSON_TABLE(mysql.ml_predict_row('gemini-1.0-pro', '{"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}'), '$[*]' COLUMNS (n FOR ORDINALITY, part TEXT PATH '$.candidates[0].content.parts[0].text')) AS t;

-- In one piece, by a change of the URL.
CALL mysql.ml_alter_model_registration('gemini-1.0-pro', '{{endpoint}}/vertex/v1/projects/test-project/locations/us-central1/publishers/google/models/gemini-1.0-pro:generateContent', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('gemini-1.0-pro', '{"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}], "generationConfig": {"temperature": 0}}'), '$.candidates[0].content.parts[0].text')) AS answer;
SELECT JSON_EXTRACT(mysql.ml_validate_model('gemini-1.0-pro'), '$.ok', '$.capability') AS tried;

-- Embeddings by the same identity.
CALL mysql.ml_create_model_registration('text-embedding', '{{endpoint}}/vertex/v1/projects/test-project/locations/us-central1/publishers/google/models/text-embedding-005:predict', 'google', 'text_embedding', NULL, 'auth_type_cloudsql_service_agent_iam', NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('text-embedding', 'hello')) AS dimensions;
--@ last BODY

-- What goes wrong on the way.
SELECT mysql.ml_predict_row('gemini-1.0-pro', '{"contents": "Say hello"}');
SELECT mysql.ml_embedding('gemini-1.0-pro', 'hello');
CALL mysql.ml_alter_model_registration('gemini-1.0-pro', '{{endpoint}}/vertex/v1/projects/nobodys-project/locations/us-central1/publishers/google/models/gemini-1.0-pro:generateContent', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('gemini-1.0-pro', '{"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}');

CALL mysql.ml_drop_model_registration('text-embedding');
CALL mysql.ml_drop_model_registration('gemini-1.0-pro');
SELECT COUNT(*) AS left_behind FROM mysql.cloudsql_ml_models;
