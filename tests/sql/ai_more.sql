-- Embedding and similarity under AlloyDB's names, rerank, count_tokens, explain_request.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CREATE USER ranker@localhost, granted@localhost;
GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO ranker@localhost;
GRANT EXECUTE ON FUNCTION ai.rerank TO granted@localhost;

-- ai.embedding is ml_embedding; a NULL model is that of the setting.
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('small', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.embedding('d', 'hello') = mysql.ml_embedding('d', 'hello') AS same, ai_embedding('hello' AS content, 'd' AS model_id) = ml_embedding('d', 'hello') AS named;
SELECT ai.embedding(NULL, 'hello');
CALL mysql.ml_set_setting('default_embedding_model', 'd');
SELECT ai.embedding(NULL, 'hello') = mysql.ml_embedding('d', 'hello') AS of_the_setting, ai.embedding('d', NULL) AS no_text, ai_embedding(NULL, NULL) AS nothing;
SELECT ai.embedding('missing', 'hello');
-- ml_embedding has no default.
SELECT mysql.ml_embedding(NULL, 'hello') AS no_default;

-- ai.similarity: 1 - cosine distance of the two embeddings.
SELECT ABS(ai.similarity('red apple', 'green apple', 'd') - (1 - cosine_distance(ml_embedding('d', 'red apple'), ml_embedding('d', 'green apple')))) < 1e-12 AS is_cosine;
SELECT ROUND(ai.similarity('a cat', 'a cat', NULL), 6) AS same, ROUND(ai_similarity('a cat', 'tax return'), 1) AS other, ai_similarity('x' AS b, 'y' AS a, 'd' AS model_id) = ai.similarity('y', 'x', NULL) AS named;
SELECT ai.similarity(NULL, 'x', 'd') AS a, ai.similarity('x', NULL, 'd') AS b;
-- A constant text is embedded once, equal texts too.
--@ clear
SELECT COUNT(ai.similarity(word, 'apple', 'small')) AS compared FROM (SELECT 'apple' AS word UNION ALL SELECT 'pear' UNION ALL SELECT 'plum' UNION ALL SELECT 'pear') AS fruit;
--@ requests
CALL mysql.ml_set_setting('default_embedding_model', NULL);
SELECT ai.similarity('x', 'y', NULL);
SELECT ai_similarity('x');
SELECT ai.similarity('x', 'y', 'missing');
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.similarity('x', 'y', 'chat');

-- ai.rerank: every provider's own form; google.sql has Google's. Documents count from 1, best first.
SET @fruit = '["car repair", "a red apple", "red tomatoes", "a red apple pie with \\"cream\\""]';
CALL mysql.ml_create_model_registration('cohere', '{{endpoint}}/cohere/v2', 'cohere', 'reranking', 'rerank-v3.5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.rerank('cohere', 'red apple', @fruit, 2) AS best_two;
--@ last BODY
SELECT r.* FROM JSON_TABLE(ai.rerank('cohere', 'red apple', @fruit, NULL), '$[*]' COLUMNS (place FOR ORDINALITY, number INT PATH '$.index', score DOUBLE PATH '$.score', document TEXT PATH '$.document')) AS r;
CALL mysql.ml_create_model_registration('voyage', '{{endpoint}}/voyage/v1', 'voyage', 'reranking', 'rerank-2.5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.rerank('voyage', 'red apple', @fruit, 1) AS best;
--@ last BODY
CALL mysql.ml_create_model_registration('nim', '{{endpoint}}/nim/v1', 'nvidia_nim', 'reranking', 'nvidia/llama-3.2-nv-rerankqa-1b-v2', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_EXTRACT(ai.rerank('nim', 'red apple', @fruit, 3), '$[*].index') AS places;
--@ last BODY
CALL mysql.ml_create_model_registration('tei', '{{endpoint}}/tei/rerank', 'hugging_face', 'reranking', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT JSON_EXTRACT(ai.rerank('tei', 'red apple', @fruit, NULL), '$[*].index') AS places;
--@ last BODY
CALL mysql.ml_create_model_registration('jina', '{{endpoint}}/openai/v1', 'open_ai', 'reranking', 'jina-reranker-v2', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_EXTRACT(ai.rerank('jina', 'red apple', @fruit, 2), '$[*].index') AS places;
--@ last PATH
--@ last BODY
CALL mysql.ml_create_model_registration('google-rank', NULL, 'google', 'reranking', 'semantic-ranker-default-003', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('bedrock', '{{endpoint}}/bedrock/model/cohere.rerank-v3-5:0/invoke', 'bedrock', 'reranking', 'cohere.rerank-v3-5:0', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT JSON_EXTRACT(ai.rerank('bedrock', 'red apple', @fruit, 2), '$[*].index') AS places;
--@ last PATH
--@ last BODY
SELECT JSON_VALUE(mysql.ml_validate_model('jina'), '$.ok') AS jina, JSON_VALUE(mysql.ml_validate_model('bedrock'), '$.ok') AS bedrock;

-- A language model in a reranker's place: numbered documents, one score each.
SELECT ai.rerank('chat', 'red apple', @fruit, 2) AS best_two;
--@ last BODY
-- Equal scores come by index.
SELECT ai.rerank('chat', 'red apple', '["same", "same", "same"]', 2) AS by_index;
-- Many documents are asked about in several requests.
--@ clear
SELECT JSON_LENGTH(ai.rerank('chat', 'n', (SELECT JSON_ARRAYAGG(CONCAT('document ', n)) FROM (WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < 60) SELECT n FROM c) AS numbers), NULL)) AS documents;
--@ requests
-- An answer that lacks a document or cannot be read is asked for once more; then it is an error.
SELECT ai.rerank('chat', 'q [[answer:{}]]', '["a", "b"]', NULL);
--@ requests
SELECT ai.rerank('chat', 'q [[once:nonsense]]', '["a", "b"]', 1) IS NOT NULL AS repaired;
--@ requests
SELECT ai.rerank('chat', 'q', '["a [[answer:[]]]", "b"]', NULL);
SELECT ai.rerank('chat', '[[refuse]]', '["a"]', NULL);
SELECT ai.rerank('chat', '[[cut]]', '["a"]', NULL);
SELECT ai.rerank('chat', '[[empty]]', '["a"]', NULL);
SELECT ai.rerank('small', 'q', '["a"]', NULL);

-- Long lists: in parts where scores are comparable, else refused.
SET @many = (SELECT JSON_ARRAYAGG(CONCAT('document ', n)) FROM (WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < 201) SELECT n FROM c) AS numbers);
--@ clear
SELECT JSON_LENGTH(ai.rerank('tei', '7', @many, NULL)) AS documents, JSON_VALUE(ai.rerank('tei', '77', @many, 1), '$[0].document') AS best;
--@ requests
SELECT ai.rerank('google-rank', '7', @many, 1);
--@ requests

-- NULLs and the setting; NULL without a call.
--@ clear
SELECT ai.rerank('cohere', NULL, @fruit, NULL) AS query, ai.rerank('cohere', 'q', NULL, NULL) AS documents, ai_rerank('cohere', NULL, NULL) AS bare, ai.rerank('cohere', 'q', '[]', NULL) AS none;
--@ requests
SELECT ai.rerank(NULL, 'red apple', @fruit, 1);
CALL mysql.ml_set_setting('default_reranker', 'cohere');
SELECT JSON_EXTRACT(ai.rerank(NULL, 'red apple', @fruit, 1), '$[*].index') AS of_the_setting, JSON_EXTRACT(ai_rerank(@fruit AS documents, 'red apple' AS query, NULL AS model_id, 1 AS top_n), '$[*].index') AS named, JSON_LENGTH(ai_rerank('cohere', 'red apple', @fruit)) AS bare;
CALL mysql.ml_set_setting('default_reranker', NULL);
SELECT CHARSET(ai_rerank('cohere', 'x', '["y"]')) AS c, JSON_TYPE(ai.rerank('cohere', 'x', '["y"]', NULL)) AS t;

-- Arguments.
SELECT ai.rerank('cohere', 'q', '["a", null]', NULL);
SELECT ai.rerank('cohere', 'q', '["a", 5]', NULL);
SELECT ai.rerank('cohere', 'q', '{"a": "b"}', NULL);
SELECT ai_rerank('cohere', 'q', 'a, b');
SELECT ai.rerank('cohere', ' ', '["a"]', NULL);
SELECT ai.rerank('cohere', 'q', '["a"]', 0);
SELECT ai_rerank('cohere', 'q', '["a"]', 'few');
SELECT ai.rerank('missing', 'q', '["a"]', NULL);
SELECT ai.rerank('cohere', 'q', '["a"]', 99) IS NOT NULL AS all_of_them;

-- A provider that says nothing useful. The service's own refusals.
CALL mysql.ml_create_model_registration('bad', '{{endpoint}}/no-data', 'cohere', 'reranking', 'x', NULL, NULL, NULL, NULL, NULL);
SELECT ai.rerank('bad', 'q', '["a"]', NULL);
CALL mysql.ml_alter_model_registration('bad', '{{endpoint}}/not-json', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.rerank('bad', 'q', '["a"]', NULL);
CALL mysql.ml_alter_model_registration('bad', '{{endpoint}}/status/400', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.rerank('bad', 'q', '["a"]', NULL);
CALL mysql.ml_create_model_registration('openais-own', NULL, 'open_ai', 'reranking', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('own', '{{endpoint}}/v1/rerank', 'custom', 'reranking', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.rerank('own', 'q', '["a"]', NULL);

-- on_error, by the model's option: NULL with a warning, or an object.
CALL mysql.ml_set_model_options('bad', '{"on_error": "null"}');
SELECT ai.rerank('bad', 'q', '["a"]', NULL) AS failed;
SHOW WARNINGS;
SELECT ai.rerank('bad', 'q', '["a", null]', NULL);
CALL mysql.ml_set_model_options('bad', '{"on_error": "detail"}');
SELECT ai.rerank('bad', 'q', '["a"]', NULL) AS failed;
CALL mysql.ml_set_setting('on_error', 'detail');
SELECT ai.rerank('cohere', 'a', '["a"]', NULL) AS ranked;
CALL mysql.ml_set_setting('on_error', NULL);

-- A constant call is made once a statement.
--@ clear
SELECT COUNT(ai_rerank('cohere', 'red apple', @fruit, 1)) AS n FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS three;
--@ requests

-- ai.explain_request: the request of a call; nothing is sent.
--@ clear
SELECT ai.explain_request('ai.if', '{"prompt": "is it red?", "model_id": "chat"}') AS request;
--@ requests
DO ai.if('is it red?', 'chat');
--@ last BODY
CALL mysql.ml_create_model_registration('claude', NULL, 'anthropic', 'llm', 'claude-sonnet-4-5', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_set_model_options('claude', '{"headers": {"x-team": "blue"}, "query_parameters": {"route": "a"}}');
SELECT ai_explain_request('ml_generate', JSON_OBJECT('prompt', 'hi', 'model_id', 'claude', 'options', JSON_OBJECT('max_tokens', 9))) AS request;
CALL mysql.ml_create_model_registration('gemini', NULL, 'google', 'llm', 'gemini-2.5-flash', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.explain_request('AI_CLASSIFY', JSON_OBJECT('text', 'it broke', 'labels', JSON_ARRAY('bug', 'other'), 'model_id', 'gemini', 'options', JSON_OBJECT('on_error', 'null'))) AS request;
SELECT JSON_EXTRACT(ai.explain_request('ai.extract', '{"input": "Ada", "fields": ["name"], "model_id": "gemini-2.5-flash"}'), '$.url', '$.headers', '$.note') AS of_googles_project;
SELECT ai.explain_request('ai.embedding', '{"content": "hello", "model_id": "small"}') AS request;
SELECT ai.explain_request('mysql.ml_query_embedding', '{"content": "hello", "model_id": "text-embedding-005"}') AS request;
SELECT ai.explain_request('ai.rerank', JSON_OBJECT('model_id', 'cohere', 'query', 'apple', 'documents', JSON_ARRAY('a', 'b'), 'top_n', 1)) AS request;
SELECT JSON_EXTRACT(ai.explain_request('ai.rerank', JSON_OBJECT('model_id', 'chat', 'query', '7', 'documents', CAST(@many AS JSON))), '$.note') AS by_a_language_model, JSON_EXTRACT(ai.explain_request('ai.rerank', JSON_OBJECT('model_id', 'tei', 'query', '7', 'documents', CAST(@many AS JSON))), '$.note', '$.body.texts[31]') AS in_parts;
CALL mysql.ml_set_model_options('tei', '{"batch_size": 100}');
SELECT JSON_EXTRACT(ai.explain_request('ai.rerank', JSON_OBJECT('model_id', 'tei', 'query', '7', 'documents', CAST(@many AS JSON))), '$.note') AS larger_parts;
SELECT ai.explain_request('ai.rerank', JSON_OBJECT('model_id', 'google-rank', 'query', '7', 'documents', CAST(@many AS JSON)));
--@ requests
SELECT ai.explain_request('ai.forecast', '{}');
SELECT ai.explain_request('ai.if', '{"prompt": "x", "temperature": 0}');
SELECT ai.explain_request('ai.if', '{"model_id": "chat"}');
SELECT ai.explain_request('ai.if', '{"prompt": "x"}');
SELECT ai.explain_request('ml_embedding', '{"content": "x"}');
SELECT ai.explain_request('ai.if', '["x"]');
SELECT ai.explain_request('ml_embedding', '{"content": "x", "model_id": "d"}');
SELECT ai.explain_request('ml_embedding', '{"content": "x", "model_id": "chat"}');
SELECT ai.explain_request('ai.rerank', '{"query": "x", "documents": [], "model_id": "chat"}');
SELECT ai.explain_request('ai.translate', '{"input": "x", "language": "de;", "model_id": "chat"}');
SELECT ai.explain_request(NULL, '{}') AS no_function, ai_explain_request('ai.if', NULL) AS no_arguments;

-- ai.count_tokens: by the tokenizer of a model inside the server, by Anthropic and Google, else an estimate.
CALL mysql.ml_create_model_registration('tiny', 'tiny', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
--@ clear
SELECT ai.count_tokens('tiny', 'the cat sat on the mat') AS words, ai.count_tokens('tiny', '') AS empty_text, ai.count_tokens('tiny', REPEAT('the cat ', 1000)) AS beyond_the_models_limit;
SELECT ai.count_tokens('tiny', REPEAT('x', 1048577));
SELECT ai.count_tokens('chat', 'the cat sat on the mat') AS estimate, ai_count_tokens('' AS text, 'd' AS model_id) AS nothing, ai.count_tokens('chat', NULL) AS no_text;
SELECT ai.count_tokens(NULL, 'x');
SELECT ai.count_tokens('missing', 'x');
--@ requests
CALL mysql.ml_drop_model_registration('tiny');
-- Anthropic and Gemini count themselves, at a URL beside the model's own.
CALL mysql.ml_create_model_registration('counting', '{{endpoint}}/anthropic/v1', 'anthropic', 'llm', 'claude-sonnet-4-5', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.count_tokens('counting', 'the cat sat on the mat') AS claude, ai.count_tokens('counting', '') AS empty_text, ai.count_tokens('counting', NULL) AS no_text;
--@ last PATH
--@ last header anthropic-version
--@ last BODY
--@ requests
SELECT ai.count_tokens('gemini', 'the cat sat on the mat') AS gemini;
--@ last PATH
--@ last BODY
SELECT ai.count_tokens('gemini-2.5-flash', 'the cat sat on the mat') AS vertex;
--@ last PATH
--@ last BODY
CALL mysql.ml_create_model_registration('vertex-claude', NULL, 'google', 'llm', 'claude-3-5-sonnet-v2@20241022', NULL, NULL, NULL, NULL, NULL);
SELECT ai.count_tokens('vertex-claude', 'the cat sat on the mat') AS claude_on_vertex;
--@ last PATH
--@ last BODY
-- A constant text is counted once a statement; in ai.query when the statement itself runs.
--@ clear
SELECT COUNT(ai_count_tokens('counting', 'x')) AS n FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS three;
--@ requests
CALL ai.query('SELECT JSON_VALUE(ai_count_tokens(''counting'', ''x''), ''$.exact'') AS exact', NULL);
--@ requests
-- An endpoint without the service gets an estimate that says so; other refusals are errors.
CALL mysql.ml_create_model_registration('old-claude', '{{endpoint}}/anthropic/v1', 'anthropic', 'llm', 'claude-2.1', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT ai.count_tokens('old-claude', 'the cat sat on the mat') AS estimate;
CALL mysql.ml_alter_model_registration('old-claude', '{{endpoint}}/status/405/messages', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.count_tokens('old-claude', 'the cat sat on the mat') AS estimate;
--@ requests
CALL mysql.ml_alter_model_registration('old-claude', '{{endpoint}}/elsewhere', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.count_tokens('old-claude', 'the cat sat on the mat') AS nothing_sent;
--@ requests
CALL mysql.ml_alter_model_registration('old-claude', '{{endpoint}}/status/401/messages', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.count_tokens('old-claude', 'x');
CALL mysql.ml_create_model_registration('missing-key', '{{endpoint}}/anthropic/v1', 'anthropic', 'llm', 'claude-sonnet-4-5', NULL, NULL, NULL, NULL, NULL);
SELECT ai.count_tokens('missing-key', 'x');
CALL mysql.ml_drop_model_registration('old-claude');
CALL mysql.ml_drop_model_registration('missing-key');
CALL mysql.ml_drop_model_registration('counting');
CALL mysql.ml_drop_model_registration('vertex-claude');

-- EXECUTE on the routine counts for the loadable function too.
--@ user ranker
SELECT ai_similarity('x', 'y', 'd');
SELECT ai_embedding('d', 'x');
SELECT ai.similarity('x', 'y', 'd');
SELECT ai_rerank('d', 'x', '[]');
SELECT ai.rerank('d', 'x', '[]', NULL);
--@ user granted
SELECT JSON_EXTRACT(ai_rerank('cohere', 'b', '["a", "b"]'), '$[*].index') AS places, JSON_LENGTH(ai.rerank('cohere', 'b', '["a", "b"]', 1)) AS one;
SELECT ai_similarity('x', 'y', 'd');
SELECT ai_count_tokens('d', 'x');
SELECT ai_explain_request('ai.rerank', '{"model_id": "cohere", "query": "x", "documents": ["a"]}');
--@ user root

CALL mysql.ml_drop_model_registration('d');
CALL mysql.ml_drop_model_registration('small');
CALL mysql.ml_drop_model_registration('chat');
CALL mysql.ml_drop_model_registration('cohere');
CALL mysql.ml_drop_model_registration('voyage');
CALL mysql.ml_drop_model_registration('nim');
CALL mysql.ml_drop_model_registration('tei');
CALL mysql.ml_drop_model_registration('jina');
CALL mysql.ml_drop_model_registration('google-rank');
CALL mysql.ml_drop_model_registration('bedrock');
CALL mysql.ml_drop_model_registration('bad');
CALL mysql.ml_drop_model_registration('own');
CALL mysql.ml_drop_model_registration('claude');
CALL mysql.ml_drop_model_registration('gemini');
DROP USER ranker@localhost, granted@localhost;
CALL mysql.ml_drop_sm_secret_registration('key');
