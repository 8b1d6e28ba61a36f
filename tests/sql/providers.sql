-- Every provider's own format, against services that refuse anything else.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
SELECT provider, embedding, generate, rerank, image, options FROM mysql.ml_model_providers;

-- OpenAI and Azure OpenAI.
CALL mysql.ml_create_model_registration('openai', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('openai', 'a text')) AS dimensions;
--@ last header authorization
CALL mysql.ml_set_model_options('openai', '{"dimensions": 256, "headers": {"OpenAI-Organization": "org-1"}}');
SELECT VECTOR_DIM(mysql.ml_embedding('openai', 'a text')) AS dimensions;
--@ last header openai-organization
-- Base64 where it is asked for, numbers where not; the vectors are the same.
--@ last BODY
SET @numbers = HEX(mysql.ml_embedding('openai', 'in numbers'));
CALL mysql.ml_set_model_options('openai', '{"encoding_format": "base64"}');
SELECT HEX(mysql.ml_embedding('openai', 'in numbers')) = @numbers AS same;
--@ last BODY
CALL mysql.ml_set_model_options('openai', '{"encoding_format": "float"}');
SELECT HEX(mysql.ml_embedding('openai', 'in numbers')) = @numbers AS same;
--@ last BODY
CALL mysql.ml_set_model_options('openai', '{"encoding_format": "int8"}');
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/openai/v1', 'open_ai', 'generic', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.choices[0].message.content')) AS answer;
CALL mysql.ml_create_model_registration('azure', '{{endpoint}}/azure/openai/deployments/my-embedder', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('azure', 'a text')) AS dimensions;
--@ last header api-key
--@ last header authorization
CALL mysql.ml_create_model_registration('azure-chat', '{{endpoint}}/azure/openai/deployments/my-gpt', 'open_ai', 'llm', NULL, 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_set_model_options('azure-chat', '{"api_version": "2025-01-01-preview"}');
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('azure-chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.choices[0].message.content')) AS answer;

-- Anthropic, without and with the header function; and as a custom model that names it.
CALL mysql.ml_create_model_registration('claude', '{{endpoint}}/anthropic/v1/messages', 'anthropic', 'generic', 'claude-3-opus-20240229', 'auth_type_secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('claude', '{"max_tokens": 100, "messages": [{"role": "user", "content": "Say hello"}]}'), '$.content[0].text')) AS answer;
--@ last header x-api-key
--@ last header anthropic-version
--@ last header authorization
CALL mysql.ml_alter_model_registration('claude', NULL, NULL, NULL, NULL, NULL, NULL, 'mysql.ml_anthropic_claude_header_gen_fn', NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('claude', '{"max_tokens": 100, "messages": [{"role": "user", "content": "Again"}]}'), '$.content[0].text')) AS answer;
CALL mysql.ml_create_model_registration('claude-custom', '{{endpoint}}/anthropic/v1/messages', NULL, NULL, NULL, 'secret_manager', 'key', 'google_ml.anthropic_claude_header_gen_fn', NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('claude-custom', '{"model": "claude-3-haiku-20240307", "max_tokens": 100, "messages": [{"role": "user", "content": "Custom"}]}'), '$.content[0].text')) AS answer;
SELECT mysql.ml_anthropic_claude_header_gen_fn('m', 'x') AS headers;
SELECT mysql.ml_predict_row('claude', '{"messages": []}');
CALL mysql.ml_create_model_registration('claude-embed', NULL, 'anthropic', 'text_embedding', 'claude-3-opus-20240229', 'secret_manager', 'key', NULL, NULL, NULL);

-- Hugging Face: every shape of feature extraction, text generation, chat, Text Embeddings Inference.
CALL mysql.ml_create_model_registration('hf', '{{endpoint}}/huggingface/hf-inference/models/BAAI/bge-small/pipeline/feature-extraction', 'hugging_face', 'text_embedding', 'BAAI/bge-small', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('hf-flat', '{{endpoint}}/huggingface/hf-inference/models/org/bge-flat/pipeline/feature-extraction', 'hugging_face', 'text_embedding', 'org/bge-flat', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('hf-tokens', '{{endpoint}}/huggingface/hf-inference/models/org/bert-tokens/pipeline/feature-extraction', 'hugging_face', 'text_embedding', 'org/bert-tokens', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('hf', 'a text')) AS dimensions, VECTOR_DIM(mysql.ml_embedding('hf-flat', 'a text')) AS flat;
SELECT mysql.ml_embedding('hf-tokens', 'a text');
CALL mysql.ml_create_model_registration('hf-text', '{{endpoint}}/huggingface/models/mistralai/Mistral-7B-Instruct-v0.3', 'hugging_face', 'generic', NULL, 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('hf-text', '{"inputs": "Say hello"}'), '$[0].generated_text')) AS answer;
CALL mysql.ml_create_model_registration('hf-chat', '{{endpoint}}/huggingface/v1', 'hugging_face', 'llm', 'meta-llama/Llama-3.1-8B-Instruct', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('hf-chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.choices[0].message.content')) AS answer;
CALL mysql.ml_create_model_registration('tei', '{{endpoint}}/tei/embed', 'hugging_face', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('tei', 'a text')) AS dimensions;
SELECT mysql.ml_embedding('tei', REPEAT('long ', 500));
CALL mysql.ml_set_model_options('tei', '{"truncate": true}');
SELECT VECTOR_DIM(mysql.ml_embedding('tei', REPEAT('long ', 500))) AS dimensions;
CALL mysql.ml_create_model_registration('tei-rank', '{{endpoint}}/tei/rerank', 'hugging_face', 'reranking', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('tei-rank', '{"query": "pasta", "texts": ["car repair", "pasta with tomatoes"]}'), '$[*].index') AS best_first;

-- NVIDIA NIM.
CALL mysql.ml_create_model_registration('nim', '{{endpoint}}/nim/v1', 'nvidia_nim', 'text_embedding', 'nvidia/nv-embedqa-e5-v5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('nim', 'a text')) > 0 AS embedded;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_query_embedding('nim', 'a text')) > 0 AS embedded;
--@ last BODY
CALL mysql.ml_create_model_registration('nim-clip', '{{endpoint}}/nim/v1', 'nim_clip', NULL, NULL, 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('nim-clip', 'a red shoe')) > 0 AS embedded;
SELECT JSON_LENGTH(mysql.ml_predict_row('nim-clip', '{"input": ["data:image/png;base64,iVBORw0KGgo="]}'), '$.data') AS images;
CALL mysql.ml_create_model_registration('nim-rank', '{{endpoint}}/nim/v1', 'nim_reranking', NULL, NULL, 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('nim-rank', '{"query": {"text": "pasta"}, "passages": [{"text": "car repair"}, {"text": "pasta with tomatoes"}]}'), '$.rankings[*].index') AS best_first;
SELECT model_id, model_provider, model_type, model_qualified_name FROM mysql.cloudsql_ml_models WHERE model_id LIKE 'nim-%' ORDER BY model_id;

CALL mysql.ml_set_model_options('nim', '{"input_type": "query", "query_input_type": "passage"}');
SELECT VECTOR_DIM(mysql.ml_embedding('nim', 'a text')) > 0 AS embedded;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_query_embedding('nim', 'a text')) > 0 AS embedded;
--@ last BODY

-- Cohere, Voyage, Mistral.
CALL mysql.ml_create_model_registration('cohere', '{{endpoint}}/cohere/v2', 'cohere', 'text_embedding', 'embed-v4.0', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('cohere', 'a text')) > 0 AS embedded;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_query_embedding('cohere', 'a text')) > 0 AS embedded;
--@ last BODY
CALL mysql.ml_set_model_options('cohere', '{"input_type": "clustering", "query_input_type": "classification"}');
SELECT VECTOR_DIM(mysql.ml_embedding('cohere', 'a text')) > 0 AS embedded;
--@ last BODY
SELECT VECTOR_DIM(mysql.ml_query_embedding('cohere', 'a text')) > 0 AS embedded;
--@ last BODY
CALL mysql.ml_set_model_options('cohere', '{"input_type": null, "query_input_type": null}');
SELECT mysql.ml_embedding('cohere', '');
CALL mysql.ml_create_model_registration('cohere-rank', '{{endpoint}}/cohere/v2', 'cohere', 'reranking', 'rerank-v3.5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('cohere-rank', '{"query": "pasta", "documents": ["car repair", "pasta with tomatoes"]}'), '$.results[*].index') AS best_first;
CALL mysql.ml_create_model_registration('cohere-chat', '{{endpoint}}/cohere/v2', 'cohere', 'llm', 'command-a-03-2025', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('cohere-chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.message.content[0].text')) AS answer;
CALL mysql.ml_create_model_registration('voyage', '{{endpoint}}/voyage/v1', 'voyage', 'text_embedding', 'voyage-3.5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('voyage', 'a text')) > 0 AS embedded;
--@ last BODY
CALL mysql.ml_create_model_registration('voyage-rank', '{{endpoint}}/voyage/v1', 'voyage', 'reranking', 'rerank-2.5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_EXTRACT(mysql.ml_predict_row('voyage-rank', '{"query": "pasta", "documents": ["car repair", "pasta with tomatoes"]}'), '$.data[*].index') AS best_first;
CALL mysql.ml_create_model_registration('mistral', '{{endpoint}}/mistral/v1', 'mistral', 'text_embedding', 'mistral-embed', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('mistral', 'a text')) AS dimensions;
CALL mysql.ml_create_model_registration('mistral-chat', '{{endpoint}}/mistral/v1', 'mistral', 'llm', 'mistral-small-latest', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('mistral-chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.choices[0].message.content')) AS answer;

-- Ollama: plain http, no key.
CALL mysql.ml_create_model_registration('ollama', '{{endpoint}}/ollama/api', 'ollama', 'text_embedding', 'nomic-embed-text', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('ollama', 'a text')) > 0 AS embedded;
CALL mysql.ml_create_model_registration('ollama-chat', '{{endpoint}}/ollama/api', 'ollama', 'llm', 'llama3.2', NULL, NULL, NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('ollama-chat', '{"messages": [{"role": "user", "content": "Say hello"}]}'), '$.message.content')) AS answer;
CALL mysql.ml_create_model_registration('ollama-missing', '{{endpoint}}/ollama/api', 'ollama', 'text_embedding', 'missing', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('ollama-missing', 'a text');
SELECT mysql.ml_embedding('ollama', REPEAT('long ', 2000));
CALL mysql.ml_create_model_registration('ollama-v1', 'http://localhost:11434/v1', 'ollama', 'text_embedding', 'nomic-embed-text', NULL, NULL, NULL, NULL, NULL);

-- Amazon Bedrock with a Bedrock API key.
CALL mysql.ml_create_model_registration('titan', '{{endpoint}}/bedrock/model/amazon.titan-embed-text-v2:0/invoke', 'bedrock', 'text_embedding', 'amazon.titan-embed-text-v2:0', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('titan', 'a text')) AS dimensions;
CALL mysql.ml_create_model_registration('bedrock-cohere', '{{endpoint}}/bedrock/model/cohere.embed-english-v3/invoke', 'bedrock', 'text_embedding', 'cohere.embed-english-v3', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('bedrock-cohere', 'a text')) AS dimensions;
CALL mysql.ml_create_model_registration('bedrock-chat', '{{endpoint}}/bedrock/model/anthropic.claude-3-haiku-20240307-v1:0/converse', 'bedrock', 'llm', 'anthropic.claude-3-haiku-20240307-v1:0', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('bedrock-chat', '{"messages": [{"role": "user", "content": [{"text": "Say hello"}]}]}'), '$.output.message.content[0].text')) AS answer;

-- Any model can be tried with one small call.
SELECT m.model_id, JSON_EXTRACT(v.r, '$.ok') AS ok, JSON_UNQUOTE(JSON_EXTRACT(v.r, '$.capability')) AS capability, JSON_EXTRACT(v.r, '$.dimensions') AS dimensions, JSON_UNQUOTE(JSON_EXTRACT(v.r, '$.error')) AS error FROM mysql.cloudsql_ml_models m, LATERAL (SELECT mysql.ml_validate_model(m.model_id) AS r) v ORDER BY m.model_id;

-- Options that mean nothing to the provider, or nothing at all, are refused.
CALL mysql.ml_set_model_options('openai', '{"input_type": "query"}');
CALL mysql.ml_set_model_options('ollama', '{"task_type": "CLUSTERING"}');
CALL mysql.ml_set_model_options('cohere', '{"truncate": "END"}');
CALL mysql.ml_set_model_options('cohere', '{"headers": {"Authorization": "Bearer sk-abcdefgh12345678"}}');
CALL mysql.ml_set_model_options('cohere', '{"query_parameters": {"api_key": "abcdefgh12345678"}}');
CALL mysql.ml_set_model_options('cohere', '{"query_parameters": {"route": "a b"}, "normalize": true}');
SELECT ROUND(dot_product(ml_embedding('cohere', 'x'), ml_embedding('cohere', 'x')), 4) AS squared_length;

DELETE FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_sm_secret_registration('key');
