-- Vertex AI as Cloud SQL for MySQL calls it: with the server's own identity, in its own project.

-- A model that needs no registration.
SELECT VECTOR_DIM(mysql.ml_embedding('text-embedding-005', 'Cloud SQL is a managed database service')) AS dimensions;
--@ last PATH
--@ last BODY
SELECT JSON_EXTRACT(mysql.ml_list_registered_model('text-embedding-005'), '$.model_provider', '$.model_type') AS listed;
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('gemini-2.5-flash', '{"contents":[{"role":"user","parts":[{"text":"Say hello"}]}]}'), '$.candidates[0].content.parts[0].text')) AS answer;
--@ last PATH
SELECT JSON_LENGTH(mysql.ml_predict_row('gemini-1.5-pro:streamGenerateContent', '{"contents":[{"role":"user","parts":[{"text":"Say hello"}]}]}')) AS parts_of_the_stream;
SELECT VECTOR_DIM(mysql.ml_embedding('projects/other-project/locations/europe-west1/publishers/google/models/text-embedding-005', 'x')) AS dimensions;
--@ last PATH

-- The samples of Cloud SQL's release, with its order of the last three arguments.
CALL mysql.ml_create_model_registration('gemini-embedding-001', 'publishers/google/models/gemini-embedding-001', 'google', 'text_embedding', 'gemini-embedding-001', 'AUTH_TYPE_CLOUDSQL_SERVICE_AGENT_IAM', NULL, 'mysql.cloudsql_ml_text_embedding_input_transform', 'mysql.cloudsql_ml_text_embedding_output_transform', NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('gemini-embedding-001', 'Cloud SQL is a managed database service')) AS dimensions;
SELECT input_transform_fn, output_transform_fn, header_gen_fn FROM mysql.cloudsql_ml_models WHERE model_id = 'gemini-embedding-001';
-- The built-in functions can be called by hand.
SELECT mysql.cloudsql_ml_text_embedding_input_transform('m', 'some text') AS request;
SELECT VECTOR_TO_STRING(mysql.cloudsql_ml_text_embedding_output_transform('m', '{"predictions": [{"embeddings": {"values": [1, 0.5]}}]}')) AS vector;
-- Shortened vectors have length 1.
CALL mysql.ml_set_model_options('gemini-embedding-001', '{"dimensions": 256, "task_type": "RETRIEVAL_DOCUMENT", "title": "Product"}');
SELECT VECTOR_DIM(ml_embedding('gemini-embedding-001', 'short')) AS dimensions, ROUND(dot_product(ml_embedding('gemini-embedding-001', 'short'), ml_embedding('gemini-embedding-001', 'short')), 5) AS squared_length;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_query_embedding('gemini-embedding-001', 'short')) AS dimensions;
--@ last BODY

-- The model that :predict does not serve, in a multi-region.
CALL mysql.ml_create_model_registration('g2', NULL, 'google', 'text_embedding', 'gemini-embedding-2', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('g2', 'text')) AS dimensions;
--@ last PATH
CALL mysql.ml_set_model_options('g2', '{"location": "eu"}');
SELECT VECTOR_DIM(mysql.ml_embedding('g2', 'text')) AS dimensions;
--@ last PATH

-- Texts by the model that also embeds images, and an image by a request of one's own.
CALL mysql.ml_create_model_registration('mm', 'publishers/google/models/multimodalembedding@001', 'google', 'multimodal_embedding', NULL, 'auth_type_cloudsql_service_agent_iam', NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('mm', 'a red shoe')) AS dimensions;
SELECT JSON_LENGTH(mysql.ml_predict_row('mm', '{"instances": [{"image": {"bytesBase64Encoded": "iVBORw0KGgo=", "mimeType": "image/png"}}]}'), '$.predictions[0].imageEmbedding') AS dimensions;
-- As Cloud SQL's sample registers it: functions of one's own, in the order input, output, header.
CREATE DATABASE search;
CREATE FUNCTION search.cloudsql_ml_multimodal_embedding_input_transform(model_id VARCHAR(100), input_text TEXT) RETURNS JSON DETERMINISTIC RETURN JSON_OBJECT('instances', JSON_ARRAY(JSON_OBJECT('text', input_text)));
CREATE FUNCTION search.cloudsql_ml_multimodal_embedding_output_transform(model_id VARCHAR(100), response_json JSON) RETURNS BLOB DETERMINISTIC RETURN STRING_TO_VECTOR(CAST(JSON_EXTRACT(response_json, '$.predictions[0].textEmbedding') AS CHAR));
CALL mysql.ml_create_model_registration('multimodalembedding@001', 'publishers/google/models/multimodalembedding@001', 'google', 'text_embedding', 'multimodalembedding@001', 'AUTH_TYPE_CLOUDSQL_SERVICE_AGENT_IAM', NULL, 'search.cloudsql_ml_multimodal_embedding_input_transform', 'search.cloudsql_ml_multimodal_embedding_output_transform', NULL);
SELECT header_gen_fn, input_transform_fn, output_transform_fn FROM mysql.cloudsql_ml_models WHERE model_id = 'multimodalembedding@001';
SELECT VECTOR_DIM(mysql.ml_embedding('multimodalembedding@001', 'a red shoe')) AS dimensions, mysql.ml_embedding('multimodalembedding@001', 'a red shoe') = mysql.ml_embedding('mm', 'a red shoe') AS same;
CALL mysql.ml_drop_model_registration('multimodalembedding@001');
DROP DATABASE search;

-- Claude on Vertex AI, an endpoint of one's own, and ranking.
CALL mysql.ml_create_model_registration('claude', NULL, 'google', 'llm', 'claude-3-5-sonnet-v2@20241022', NULL, NULL, NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('claude', '{"max_tokens": 100, "messages": [{"role": "user", "content": "Say hello"}]}'), '$.content[0].text')) AS answer;
--@ last PATH
--@ last BODY
CALL mysql.ml_create_model_registration('own', 'projects/test-project/locations/us-central1/endpoints/1234', 'google', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('own', '{"instances": [{"x": 1}]}') AS answer;
CALL mysql.ml_create_model_registration('ranker', NULL, 'google', 'reranking', 'semantic-ranker-default-003', NULL, NULL, NULL, NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('ranker', '{"query": "pasta", "records": [{"id": "1", "content": "car repair"}, {"id": "2", "content": "pasta with tomatoes"}]}'), '$.records[*].id') AS best_first;
--@ last PATH
SELECT ai.rerank('ranker', 'pasta', '["car repair", "pasta with tomatoes"]', 1) AS best;
--@ last BODY
SELECT ai.rerank('ranker', 'pasta', '[""]', NULL);

-- The Gemini API with a key.
CALL mysql.ml_create_sm_secret_registration('gemini-key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('gemini-api', NULL, 'google', 'text_embedding', 'gemini-embedding-001', 'auth_type_secret_manager', 'gemini-key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('gemini-api', 'text')) AS dimensions;
--@ last PATH
--@ last header x-goog-api-key
--@ last header authorization
CALL mysql.ml_create_model_registration('gemini-chat', NULL, 'google', 'llm', 'gemini-2.5-flash', 'secret_manager', 'gemini-key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('gemini-chat', '{"contents":[{"role":"user","parts":[{"text":"Say hello"}]}]}'), '$.candidates[0].content.parts[0].text')) AS answer;

-- What Google refuses is told in its words.
CALL mysql.ml_create_model_registration('absent', NULL, 'google', 'text_embedding', 'text-embedding-000', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('absent', 'x');
CALL mysql.ml_set_model_options('absent', '{"project": "nobodys-project"}');
SELECT mysql.ml_embedding('absent', 'x');
SELECT mysql.ml_embedding('text-embedding-005', REPEAT('long ', 3000));
SELECT mysql.ml_predict_row('gemini-2.5-flash', '{"prompt": "x"}');

-- The server's identity is not sent just anywhere.
CALL mysql.ml_create_model_registration('steal', 'https://evil.example/v1', 'custom', 'generic', NULL, 'auth_type_cloudsql_service_agent_iam', NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('steal', 'https://storage.googleapis.com/upload', 'google', 'generic', NULL, 'auth_type_cloudsql_service_agent_iam', NULL, NULL, NULL, NULL);

-- URLs, and names.
SELECT mysql.ml_generate_model_request_url('google', 'text_embedding', 'text-embedding-005', NULL) AS url;
SELECT mysql.ml_generate_model_request_url('google', 'generic', 'gemini-2.5-flash', 'europe-west1') AS url;
SELECT mysql.ml_generate_model_request_url('open_ai', 'text_embedding', 'text-embedding-3-small', NULL) AS url;
SELECT mysql.ml_generate_model_request_url('custom', 'generic', 'x', NULL) AS url;
SELECT mysql.ml_model_qualified_name_of('claude') AS name, mysql.ml_model_qualified_name_of('own') AS none;
SELECT mysql.ml_model_qualified_name_of('nobody');

-- Project and location as settings.
CALL mysql.ml_set_setting('google_project', 'other-project');
CALL mysql.ml_set_setting('google_location', 'europe-west1');
SELECT VECTOR_DIM(mysql.ml_embedding('text-embedding-005', 'elsewhere')) AS dimensions;
--@ last PATH
-- The same text is asked for anew in another location, and in another project.
CALL mysql.ml_set_setting('google_location', 'us-central1');
SELECT VECTOR_DIM(mysql.ml_embedding('text-embedding-005', 'elsewhere')) AS dimensions;
--@ last PATH
CALL mysql.ml_set_setting('google_project', 'my-project');
SELECT VECTOR_DIM(mysql.ml_embedding('text-embedding-005', 'elsewhere')) AS dimensions;
--@ last PATH
CALL mysql.ml_set_setting('google_project', 'a/b');
CALL mysql.ml_set_setting('google_project', NULL);
CALL mysql.ml_set_setting('google_location', NULL);

DELETE FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_sm_secret_registration('gemini-key');
