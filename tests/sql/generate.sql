-- ml_generate: a text for a prompt, in every provider's own form.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
SET @options = '{"max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "system": "Be brief."}';

CALL mysql.ml_create_model_registration('openai', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('openai', 'Grüße 😀', NULL) AS answer;
--@ last PATH
--@ last BODY
SELECT ml_generate('openai', 'bare') AS bare, ml_generate('openai', 'options', @options) AS options, ml_generate('named' AS prompt, 'openai' AS model_id) AS named;
SELECT mysql.ml_generate('openai', 'all options', JSON_SET(@options, '$.seed', 7)) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('azure', '{{endpoint}}/azure/openai/deployments/my-gpt', 'open_ai', 'llm', NULL, 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('azure', 'Say hello', '{"max_tokens": 9}') AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('claude', '{{endpoint}}/anthropic/v1', 'anthropic', 'llm', 'claude-3-opus-20240229', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('claude', 'Say hello', @options) AS answer;
--@ last BODY
SELECT mysql.ml_generate('claude', 'Say hello', '{"seed": 1}');
SELECT mysql.ml_generate('gemini-2.5-flash', 'Say hello', NULL) AS unregistered;
--@ last PATH
CALL mysql.ml_create_model_registration('gemini', NULL, 'google', 'llm', 'gemini-2.5-flash', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('gemini', 'Say hello', JSON_SET(@options, '$.seed', 7)) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('vertex-claude', NULL, 'google', 'llm', 'claude-3-5-sonnet-v2@20241022', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_generate('vertex-claude', 'Say hello', NULL) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('mistral', '{{endpoint}}/mistral/v1', 'mistral', 'llm', 'mistral-small-latest', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('mistral', 'Say hello', JSON_SET(@options, '$.seed', 7)) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('cohere', '{{endpoint}}/cohere/v2', 'cohere', 'llm', 'command-a-03-2025', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('cohere', 'Say hello', JSON_SET(@options, '$.seed', 7)) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('ollama', '{{endpoint}}/ollama/api', 'ollama', 'llm', 'llama3.2', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_generate('ollama', 'Say hello', JSON_SET(@options, '$.seed', 7)) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('nim', '{{endpoint}}/nim/v1', 'nvidia_nim', 'llm', 'meta/llama-3.1-8b-instruct', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('nim', 'Say hello', JSON_SET(@options, '$.seed', 7)) AS answer;
--@ last BODY
CALL mysql.ml_create_model_registration('hf', '{{endpoint}}/huggingface/v1', 'hugging_face', 'llm', 'mistralai/Mistral-7B-Instruct-v0.3', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('hf', 'Say hello', @options) AS answer;
--@ last PATH
CALL mysql.ml_create_model_registration('hf-old', '{{endpoint}}/huggingface/models/mistralai/Mistral-7B-Instruct-v0.3', 'hugging_face', 'llm', NULL, 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('hf-old', 'Say hello', '{"max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "seed": 7}') AS answer;
--@ last BODY
SELECT mysql.ml_generate('hf-old', 'Say hello', @options);
CALL mysql.ml_create_model_registration('bedrock', '{{endpoint}}/bedrock/model/amazon.nova-lite-v1:0/converse', 'bedrock', 'llm', 'amazon.nova-lite-v1:0', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('bedrock', 'Say hello', @options) AS answer;
--@ last BODY

--@ clear
-- Text in utf8mb4; a constant prompt is sent for each row, because an answer may differ each time.
SELECT CHARSET(ml_generate('openai', 'x')) AS bare, CHARSET(mysql.ml_generate('openai', 'x', NULL)) AS wrapped;
--@ requests
SELECT COUNT(ml_generate('openai', 'each row')) AS bare, COUNT(mysql.ml_generate('openai', 'each row', NULL)) AS wrapped FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS three;
--@ requests
SELECT mysql.ml_generate('openai', NULL, NULL) AS prompt, mysql.ml_generate(NULL, 'x', NULL) AS model, ml_generate('openai', NULL) AS bare;
--@ requests

-- Errors.
SELECT mysql.ml_generate('openai', 'x', '{"max_tokens": 0}');
SELECT mysql.ml_generate('openai', 'x', '{"tools": []}');
SELECT mysql.ml_generate('openai', 'x', '[1]');
SELECT mysql.ml_generate('openai', 'x', 'no json');
SELECT ml_generate('openai', 'x', 'no json');
SELECT ml_generate('openai');
SELECT mysql.ml_generate('nobody', 'x', NULL);
CALL mysql.ml_create_model_registration('own', '{{endpoint}}/echo', 'custom', 'llm', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_generate('own', 'x', NULL);
CALL mysql.ml_create_model_registration('embeds', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'text-embedding-3-small', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_generate('embeds', 'x', NULL);
CALL mysql.ml_create_model_registration('other', '{{endpoint}}/not-json', 'open_ai', 'llm', 'gpt-4o', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_generate('other', 'x', NULL);

CALL mysql.ml_drop_model_registration('openai');
CALL mysql.ml_drop_model_registration('azure');
CALL mysql.ml_drop_model_registration('claude');
CALL mysql.ml_drop_model_registration('gemini');
CALL mysql.ml_drop_model_registration('vertex-claude');
CALL mysql.ml_drop_model_registration('mistral');
CALL mysql.ml_drop_model_registration('cohere');
CALL mysql.ml_drop_model_registration('ollama');
CALL mysql.ml_drop_model_registration('nim');
CALL mysql.ml_drop_model_registration('hf');
CALL mysql.ml_drop_model_registration('hf-old');
CALL mysql.ml_drop_model_registration('bedrock');
CALL mysql.ml_drop_model_registration('own');
CALL mysql.ml_drop_model_registration('embeds');
CALL mysql.ml_drop_model_registration('other');
CALL mysql.ml_drop_sm_secret_registration('key');
