-- Images in AI functions: as bytes, base64, URLs and arrays, in every provider's own form. The fake says what it sees.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('gpt', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
SET @png = FROM_BASE64('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGNgYPj/n4EBQgEAH+4D/Yf+4WUAAAAASUVORK5CYII=');
SET @jpeg = x'FFD8FFE000104A464946', @gif = x'474946383961', @webp = x'52494646000000005745425056503820';

-- One image.
SELECT ai_generate('What is it?' AS prompt, 'gpt' AS model_id, @png AS images) AS named, ai_generate('What is it?', 'gpt', NULL, @jpeg) AS in_place;
--@ last BODY
SELECT ai_generate('What?' AS prompt, @png AS image, 'gpt' AS model_id) AS alias;
--@ last BODY
SELECT ai_generate('x', 'gpt', NULL, @gif) AS gif, ai_generate('x', 'gpt', NULL, @webp) AS webp;
SELECT ai_generate('' AS prompt, 'gpt' AS model_id, @gif AS images) AS only_the_image;
--@ last BODY
-- Base64, base64 in lines, a data: URL, an https URL, which the provider reads.
SET @lines = CONCAT(LEFT(TO_BASE64(@jpeg), 4), '\n', SUBSTRING(TO_BASE64(@jpeg), 5));
SELECT ai_generate('a', 'gpt', NULL, TO_BASE64(@jpeg)) AS base64, ai_generate('b', 'gpt', NULL, @lines) AS in_lines, ai_generate('c', 'gpt', NULL, CONCAT('data:image/jpeg;base64,', TO_BASE64(@jpeg))) AS url;
SELECT ai_generate('d', 'gpt', NULL, 'https://images.example/cat.png?size=2') AS url;
--@ last BODY
-- Arrays.
SELECT ai_generate('Compare them.', 'gpt', NULL, JSON_ARRAY(@png, TO_BASE64(@jpeg), JSON_OBJECT('mime_type', 'image/gif', 'data', TO_BASE64(@gif)), JSON_OBJECT('url', 'https://images.example/cat'))) AS four;
--@ last BODY
SELECT ai_generate('x', 'gpt', NULL, '[]') AS none, ai_generate('x', 'gpt', NULL, JSON_OBJECT('data', TO_BASE64(@gif))) AS one_object;
CREATE DATABASE p;
CREATE TABLE p.pictures (id INT PRIMARY KEY, what TEXT, picture LONGBLOB);
INSERT INTO p.pictures VALUES (1, 'yes, a red shoe; name: shoe', @png), (2, 'a cat; name: Tom', @jpeg), (3, 'nothing', NULL), (4, NULL, @png), (5, 'damaged', 'not an image');
SELECT ai_generate('All of them', 'gpt', NULL, JSON_ARRAYAGG(picture)) AS all_pictures FROM p.pictures WHERE id <= 2;

-- The other functions.
SELECT ai_if('Is it red? yes', 'gpt', NULL, @png) AS decision, ai_rank('score=0.75', 'gpt', NULL, @png) AS score, ai_summarize('', 'gpt', NULL, @png) AS summary;
--@ last BODY
SELECT ai_classify('' AS input, '["cat", "image"]' AS labels, 'gpt' AS model_id, @png AS images) AS label, ai_extract('name: Ada', '["name"]', 'gpt', NULL, @png) AS fields, ai_translate('x', 'German', 'gpt', NULL, @png) AS translated, ai_analyze_sentiment('positive', 'gpt', NULL, @png) AS sentiment;
-- An answer that is repaired: the image is sent again, in the first message only.
SELECT ai_if('yes [[once:I think so]]', 'gpt', NULL, @gif) AS repaired;
--@ last BODY

-- NULL for NULL, without a call.
--@ requests
SELECT ai_generate('x', 'gpt', NULL, NULL) AS no_image, ai_generate(NULL, 'gpt', NULL, @png) AS no_prompt, ai_if('x' AS prompt, NULL AS images, 'gpt' AS model_id) AS named;
--@ requests

-- The image is part of what is remembered: in a statement, in the caches, in ai.query.
SELECT COUNT(ai_generate('x', 'gpt', NULL, @png)) AS n FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS three;
--@ requests
SELECT id, ai_generate('x', 'gpt', NULL, picture) AS text FROM p.pictures WHERE id <= 3 ORDER BY id;
--@ requests
SELECT ai_generate('kept', 'gpt', '{"cache_answers": true}', @png) AS png, ai_generate('kept', 'gpt', '{"cache_answers": true}', @jpeg) AS jpeg, ai_generate('kept', 'gpt', '{"cache_answers": true}') AS none;
SELECT ai_generate('kept', 'gpt', '{"cache_answers": true}', TO_BASE64(@png)) AS png, ai_generate('kept', 'gpt', '{"cache_answers": true}', @jpeg) AS jpeg, ai_generate('kept', 'gpt', '{"cache_answers": true}') AS none;
--@ requests
DO ml_cache_clear('gpt');
CALL ai.query('SELECT id, ai_generate(what, ''gpt'', NULL, picture) AS text, ai_if(what, ''gpt'', NULL, picture) AS decision FROM p.pictures WHERE id <= 4 ORDER BY id', NULL);
--@ requests
CALL ai.query('SELECT COUNT(ai_generate(''same'', ''gpt'', NULL, picture)) AS n FROM p.pictures WHERE id IN (1, 2, 4)', NULL);
--@ requests

-- Arrays: objects with prompt and images among texts, in the stored functions too. Equal ones are asked once.
SET @inputs = (SELECT JSON_ARRAYAGG(JSON_OBJECT('prompt', what, 'images', picture)) FROM p.pictures WHERE id <= 4);
SELECT ai.generate_batch(@inputs, 'gpt', NULL) AS answers;
--@ requests
SELECT ai_if_batch(JSON_ARRAY('yes', NULL, JSON_OBJECT('prompt', 'yes', 'images', TO_BASE64(@png)), JSON_OBJECT('input', 'yes', 'image', JSON_ARRAY(@png)), JSON_OBJECT('prompt', 'no', 'images', JSON_ARRAY(@png, JSON_OBJECT('url', 'https://images.example/cat.png'))), JSON_OBJECT('text', 'yes'), JSON_OBJECT('prompt', 'yes', 'images', JSON_ARRAY())), 'gpt') AS answers;
--@ requests
SELECT ai.classify_batch(JSON_ARRAY(JSON_OBJECT('prompt', '', 'images', @png)), '["cat", "image"]', 'gpt', NULL) AS labels;
SELECT ai.generate_batch((SELECT JSON_ARRAYAGG(JSON_OBJECT('prompt', 'x', 'images', picture)) FROM p.pictures), 'gpt', NULL);
SELECT ai.generate_batch((SELECT JSON_ARRAYAGG(JSON_OBJECT('prompt', 'x', 'images', picture)) FROM p.pictures), 'gpt', '{"on_error": "null"}') AS answers;
SHOW WARNINGS;
SELECT ai.generate_batch((SELECT JSON_ARRAYAGG(JSON_OBJECT('prompt', 'x', 'images', JSON_ARRAY(picture))) FROM p.pictures WHERE id > 1), 'gpt', '{"on_error": "detail"}') AS answers;
-- A question with an image never shares a request with others.
--@ clear
SELECT ai_if_batch(JSON_ARRAY('yes', 'no', JSON_OBJECT('prompt', 'yes', 'images', @png), 'yes, too', JSON_OBJECT('prompt', 'no', 'images', @jpeg)), 'gpt', '{"rows_per_request": 16}') AS answers;
--@ requests
SELECT ai.generate_batch('[{"prompt": "x", "temperature": 1}]', 'gpt', NULL);
SELECT ai.generate_batch('[{"images": []}]', 'gpt', NULL);
SELECT ai.generate_batch('[{"prompt": 5}]', 'gpt', NULL);
SELECT ai.generate_batch('[{"prompt": "x", "images": 5}]', 'gpt', NULL);

-- Errors, and one damaged image among others.
SELECT ai_generate('x', 'gpt', NULL, 'not an image');
SELECT ai_generate('x', 'gpt', NULL, '');
SELECT ai_generate('x', 'gpt', NULL, 17);
SELECT ai_generate('x', 'gpt', NULL, 'http://images.example/cat.png');
SELECT ai_generate('x', 'gpt', NULL, 'file:///etc/passwd');
SELECT ai_generate('x', 'gpt', NULL, 'gs://bucket/cat.png');
SELECT ai_generate('x', 'gpt', NULL, JSON_ARRAY(@png, NULL));
SELECT ai_generate('x', 'gpt', NULL, JSON_ARRAY(@png, 5));
SELECT ai_generate('x', 'gpt', NULL, JSON_ARRAY(@png, JSON_OBJECT('path', '/etc/passwd')));
SELECT ai_generate('x', 'gpt', NULL, JSON_ARRAY(JSON_OBJECT('url', 'https://h.example/a.png', 'data', 'x')));
SELECT ai_generate('x', 'gpt', NULL, JSON_ARRAY('https://h/1.png', 'https://h/2.png', 'https://h/3.png', 'https://h/4.png', 'https://h/5.png', 'https://h/6.png', 'https://h/7.png', 'https://h/8.png', 'https://h/9.png', 'https://h/10.png', 'https://h/11.png', 'https://h/12.png', 'https://h/13.png', 'https://h/14.png', 'https://h/15.png', 'https://h/16.png', 'https://h/17.png', 'https://h/18.png', 'https://h/19.png', 'https://h/20.png', 'https://h/21.png'));
SELECT ai_generate('x', 'gpt', NULL, CONCAT(@png, REPEAT('x', 20971520)));
SELECT ai_generate('x', 'gpt', @png);
-- Memory is asked for before an image is read.
CALL mysql.ml_set_setting('call_memory_mb', '16');
SELECT ai_generate('x', 'gpt', NULL, CONCAT(@png, REPEAT('x', 6000000)));
CALL mysql.ml_set_setting('call_memory_mb', NULL);
SELECT id, ai_generate('x', 'gpt', NULL, picture) AS text FROM p.pictures WHERE id IN (1, 5);
SELECT id, ai_generate('x', 'gpt', '{"on_error": "null"}', picture) AS text FROM p.pictures WHERE id IN (1, 5) ORDER BY id;
SHOW WARNINGS;
SELECT id, ai_extract('name: Ada', '["name"]', 'gpt', '{"on_error": "detail"}', picture) AS fields FROM p.pictures WHERE id IN (1, 5) ORDER BY id;
CALL ai.query('SELECT id, ai_generate(''y'', ''gpt'', ''{"on_error": "null"}'', picture) AS text FROM p.pictures ORDER BY id', NULL);
DROP DATABASE p;

-- Models that take none: the provider says so, or the library.
CALL mysql.ml_create_model_registration('blind', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai_generate('x', 'blind', NULL, @png);
SELECT ai_generate('x', 'blind') AS without_images;
CALL mysql.ml_create_model_registration('t5', 'tiny-t5', 't5_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai_generate('x', 't5', NULL, @png);

-- ai.explain_request shows images by length and digest.
SELECT ai.explain_request('ai.generate', JSON_OBJECT('prompt', 'x', 'model_id', 'gpt', 'images', JSON_ARRAY(TO_BASE64(@png), 'https://images.example/cat.png'))) AS request;
SELECT ai.explain_request('ai_if', JSON_OBJECT('prompt', 'x', 'model_id', 'gpt', 'image', 'https://images.example/cat.png')) AS request;

-- Every provider's own form.
CALL mysql.ml_create_model_registration('claude', '{{endpoint}}/anthropic/v1', 'anthropic', 'llm', 'claude-sonnet-4-5', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('gemini', NULL, 'google', 'llm', 'gemini-2.5-flash', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('vertex', NULL, 'google', 'llm', 'publishers/google/models/gemini-2.5-flash', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('vertex-claude', NULL, 'google', 'llm', 'claude-3-5-sonnet-v2@20241022', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('mistral', '{{endpoint}}/mistral/v1', 'mistral', 'llm', 'mistral-small-latest', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('cohere', '{{endpoint}}/cohere/v2', 'cohere', 'llm', 'command-a-vision-07-2025', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('ollama', '{{endpoint}}/ollama/api', 'ollama', 'llm', 'llama3.2-vision', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('nim', '{{endpoint}}/nim/v1', 'nvidia_nim', 'llm', 'meta/llama-3.2-11b-vision-instruct', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('hf', '{{endpoint}}/huggingface/v1', 'hugging_face', 'llm', 'Qwen/Qwen2.5-VL-7B-Instruct', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('hf-old', '{{endpoint}}/huggingface/models/HuggingFaceM4/idefics2-8b', 'hugging_face', 'llm', NULL, 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('bedrock', '{{endpoint}}/bedrock/model/anthropic.claude-sonnet-4-5/converse', 'bedrock', 'llm', 'anthropic.claude-sonnet-4-5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai_generate('What?', 'claude', NULL, @gif) AS text, ai_if('yes?', 'claude', NULL, @gif) AS decision;
--@ last BODY
SELECT ai_generate('What?', 'gemini', NULL, @gif) AS text, ai_if('yes?', 'gemini', NULL, @gif) AS decision;
--@ last BODY
SELECT ai_generate('What?', 'vertex', NULL, @gif) AS text, ai_generate('What?', 'vertex', NULL, 'gs://bucket/cat.jpg') AS from_storage;
--@ last BODY
SELECT ai_generate('What?', 'vertex-claude', NULL, @gif) AS text;
SELECT ai_generate('What?', 'mistral', NULL, @gif) AS text, ai_if('yes?', 'mistral', NULL, @gif) AS decision;
--@ last BODY
SELECT ai_generate('What?', 'cohere', NULL, @gif) AS text, ai_if('yes?', 'cohere', NULL, @gif) AS decision;
--@ last BODY
SELECT ai_generate('What?', 'ollama', NULL, @gif) AS text, ai_if('yes?', 'ollama', NULL, @gif) AS decision;
--@ last BODY
SELECT ai_generate('What?', 'nim', NULL, @gif) AS text, ai_generate('What?', 'hf', NULL, @gif) AS hf;
--@ last BODY
SELECT ai_generate('What?', 'hf-old', NULL, @gif) AS text;
--@ last BODY
SELECT ai_generate('What?', 'bedrock', NULL, @gif) AS text, ai_if('yes?', 'bedrock', NULL, @gif) AS decision;
--@ last BODY
-- URLs, where the API reads them.
SET @url = 'https://images.example/cat.png';
SELECT ai_generate('What?', 'claude', NULL, @url) AS claude, ai_generate('What?', 'gemini', NULL, @url) AS gemini, ai_generate('What?', 'mistral', NULL, @url) AS mistral, ai_generate('What?', 'cohere', NULL, @url) AS cohere, ai_generate('What?', 'hf-old', NULL, @url) AS hf_old;
SELECT ai_generate('What?', 'ollama', NULL, CONCAT(@url, '?signature=of-the-owner'));
SELECT ai_generate('What?', 'bedrock', NULL, @url);
SELECT ai_generate('What?', 'gemini', NULL, 'https://images.example/cat');
SELECT ai_generate('What?', 'gemini', NULL, JSON_OBJECT('url', 'https://images.example/cat', 'mime_type', 'image/webp')) AS with_its_type;

CALL mysql.ml_drop_model_registration('gpt');
CALL mysql.ml_drop_model_registration('blind');
CALL mysql.ml_drop_model_registration('t5');
CALL mysql.ml_drop_model_registration('claude');
CALL mysql.ml_drop_model_registration('gemini');
CALL mysql.ml_drop_model_registration('vertex');
CALL mysql.ml_drop_model_registration('vertex-claude');
CALL mysql.ml_drop_model_registration('mistral');
CALL mysql.ml_drop_model_registration('cohere');
CALL mysql.ml_drop_model_registration('ollama');
CALL mysql.ml_drop_model_registration('nim');
CALL mysql.ml_drop_model_registration('hf');
CALL mysql.ml_drop_model_registration('hf-old');
CALL mysql.ml_drop_model_registration('bedrock');
CALL mysql.ml_drop_sm_secret_registration('key');
