-- From nothing to an answer with Hugging Face: a token, a model that takes inputs, embeddings, a chat.
CALL mysql.ml_create_sm_secret_registration('hugging_face_secret', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('mistral-7b', '{{endpoint}}/huggingface/models/mistralai/Mistral-7B-Instruct-v0.3', 'hugging_face', 'generic', NULL, 'auth_type_secret_manager', 'hugging_face_secret', NULL, NULL, NULL);
SELECT model_id, model_provider, model_type, model_auth_type, model_auth_id FROM mysql.cloudsql_ml_models;
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('mistral-7b', '{"inputs": "What is MySQL?"}'), '$[0].generated_text')) AS answer;
--@ last PATH
--@ last BODY
--@ last header authorization

-- A name in the registration is not sent here: the URL says the model.
CALL mysql.ml_alter_model_registration('mistral-7b', NULL, NULL, NULL, 'mistralai/Mistral-7B-Instruct-v0.3', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_model_qualified_name_of('mistral-7b') AS name;
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('mistral-7b', '{"inputs": "What is MySQL?", "parameters": {"max_new_tokens": 20}}'), '$[0].generated_text')) AS answer;
--@ last BODY
SELECT JSON_EXTRACT(mysql.ml_validate_model('mistral-7b'), '$.ok', '$.capability') AS tried;

-- Embeddings, in each shape that models answer in.
CALL mysql.ml_create_model_registration('minilm', '{{endpoint}}/huggingface/hf-inference/models/sentence-transformers/all-MiniLM-L6-v2/pipeline/feature-extraction', 'hugging_face', 'text_embedding', 'sentence-transformers/all-MiniLM-L6-v2', 'auth_type_secret_manager', 'hugging_face_secret', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('minilm', 'hello')) AS dimensions;
--@ last BODY
CALL mysql.ml_alter_model_registration('minilm', '{{endpoint}}/huggingface/hf-inference/models/org/model-flat/pipeline/feature-extraction', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('minilm', 'hello')) AS dimensions;
CALL mysql.ml_alter_model_registration('minilm', '{{endpoint}}/huggingface/hf-inference/models/org/model-tokens/pipeline/feature-extraction', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('minilm', 'one vector a token');
CALL mysql.ml_alter_model_registration('minilm', '{{endpoint}}/huggingface/hf-inference/models/org/model-loading/pipeline/feature-extraction', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('minilm', '{"max_retries": 0}');
SELECT mysql.ml_embedding('minilm', 'not there yet');

-- The chat, which takes the name.
CALL mysql.ml_create_model_registration('llama', '{{endpoint}}/huggingface/v1', 'hugging_face', 'llm', 'meta-llama/Llama-3.1-8B-Instruct', 'auth_type_secret_manager', 'hugging_face_secret', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('llama', '{"messages": [{"role": "user", "content": "What is MySQL?"}]}'), '$.choices[0].message.content')) AS answer;
--@ last PATH
--@ last BODY

-- What goes wrong on the way.
SELECT mysql.ml_predict_row('mistral-7b', '{"prompt": "What is MySQL?"}');
CALL mysql.ml_create_model_registration('rank', NULL, 'hugging_face', 'reranking', NULL, 'auth_type_secret_manager', 'hugging_face_secret', NULL, NULL, NULL);

CALL mysql.ml_drop_model_registration('mistral-7b');
CALL mysql.ml_drop_model_registration('minilm');
CALL mysql.ml_drop_model_registration('llama');
CALL mysql.ml_drop_sm_secret_registration('hugging_face_secret');
