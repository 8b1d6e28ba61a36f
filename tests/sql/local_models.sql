-- Models inside the server, from files that somebody put there.
CALL mysql.ml_create_model_registration('tiny', 'file:///nowhere/tiny', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('tiny', 'the cat sat on the mat');
CALL mysql.ml_alter_model_registration('tiny', 'tiny', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('tiny', 'the cat sat on the mat')) AS dimensions;
SELECT ROUND(dot_product(mysql.ml_embedding('tiny', 'the cat'), mysql.ml_embedding('tiny', 'the cat')), 4) AS length;
SELECT mysql.ml_embedding('tiny', 'the cat') = mysql.ml_query_embedding('tiny', 'THE CAT') AS same;
SELECT mysql.ml_embedding('tiny', NULL) IS NULL AS null_text;
SELECT mysql.ml_embedding('tiny', '  ');
-- Many texts are computed together, and each has the vector that it has alone.
SELECT JSON_LENGTH(mysql.ml_embedding_batch('tiny', '["a cat", null, "a dog", "a cat"]')) AS texts;
SELECT HEX(FROM_BASE64(JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_embedding_batch('tiny', '["my parcel", "my order is slow", "1 2 3"]'), '$[1]')))) = HEX(mysql.ml_embedding('tiny', 'my order is slow')) AS same;
-- A text that is too long: an error, unless the option says that it may be cut.
SELECT mysql.ml_embedding('tiny', REPEAT('cat ', 20));
SELECT mysql.ml_embedding_batch('tiny', JSON_ARRAY('cat', REPEAT('dog ', 15)));
CALL mysql.ml_set_model_options('tiny', '{"truncate": true}');
SELECT mysql.ml_embedding('tiny', REPEAT('cat ', 20)) = mysql.ml_embedding('tiny', REPEAT('cat ', 14)) AS cut;
CALL mysql.ml_set_model_options('tiny', '{"truncate": null, "dimensions": 9}');
SELECT mysql.ml_embedding('tiny', 'dog');
CALL mysql.ml_set_model_options('tiny', '{"dimensions": null, "task_type": "CLUSTERING"}');
CALL mysql.ml_set_model_options('tiny', '{"dimensions": null}');
-- In memory once for all; taken out, it is loaded again when it is needed.
SELECT JSON_EXTRACT(mysql.ml_status(), '$.local.models[*].directory', '$.local.models[*].kind', '$.local.models[*].state') AS loaded;
CALL mysql.ml_unload_model('tiny');
CALL mysql.ml_unload_model('tiny');
SELECT JSON_LENGTH(mysql.ml_status(), '$.local.models') AS loaded;
SELECT JSON_REMOVE(ml_load_model('tiny'), '$.ms') AS loaded;
SELECT VECTOR_DIM(mysql.ml_embedding('tiny', 'after that')) AS dimensions;
-- Whole tables.
CREATE DATABASE local_models;
USE local_models;
CREATE TABLE docs (id INT PRIMARY KEY, body TEXT, v VECTOR(8));
SET SESSION cte_max_recursion_depth = 2000;
INSERT INTO docs WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, CONCAT('the cat ', i), NULL FROM n;
CALL mysql.ml_embed_table('tiny', 'local_models.docs', 'body', 'v', NULL);
SELECT COUNT(*) AS equal FROM docs WHERE v = mysql.ml_embedding('tiny', body);
DROP DATABASE local_models;
-- Static embeddings.
CALL mysql.ml_create_model_registration('words', 'tiny-static', 'model2vec', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('words', 'the cat')) AS dimensions, mysql.ml_embedding('words', 'the cat') = mysql.ml_embedding('words', 'cat the') AS no_order;
SELECT mysql.ml_embedding('words', 'xyzzy');
-- What these models do not do.
SELECT mysql.ml_predict_row('tiny', '{}');
SELECT mysql.ml_generate('tiny', 'say hello', NULL);
SELECT mysql.ml_image_embedding('tiny', x'ffd8ff', 'image/jpeg');
CALL mysql.ml_create_model_registration('x', 'https://example.com/', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'tiny', 'bert_local', 'llm', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'tiny', 't5_local', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'tiny', 'bert_local', NULL, NULL, 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', '../tiny', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('x', 'hf:a/b/c', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- Files that are not as they should be.
CALL mysql.ml_create_model_registration('bad', 'cut', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('bad', 'cat');
CALL mysql.ml_alter_model_registration('bad', 'link', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('bad', 'cat');
CALL mysql.ml_alter_model_registration('bad', 'file:///etc', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('bad', 'cat');
CALL mysql.ml_alter_model_registration('bad', 'tiny-static', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('bad', 'cat');
CALL mysql.ml_alter_model_registration('bad', 'tiny', 'clip_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('bad', 'cat');
CALL mysql.ml_fetch_model('bad');
SELECT JSON_EXTRACT(mysql.ml_validate_model('bad'), '$.ok') AS ok;
CALL mysql.ml_drop_model_registration('bad');
-- Memory is bounded.
CALL mysql.ml_set_setting('local_memory_mb', '0');
CALL mysql.ml_unload_model('tiny');
SELECT mysql.ml_embedding('tiny', 'too large');
CALL mysql.ml_set_setting('local_memory_mb', NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('tiny', 'too large')) AS dimensions;
-- Names that are ready, without their weights.
SELECT mysql.ml_embedding('bert_local', 'cat');
SELECT mysql.ml_generate('t5_local', 'translate English to German: cat', NULL);
SELECT mysql.ml_image_embedding('clip_local', x'ffd8ff', 'image/jpeg');
SELECT mysql.ml_list_registered_model('bert_local') AS listed;
-- Weights come when they are called for.
CALL mysql.ml_create_model_registration('fetched', 'hf:test/tiny@v1', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('fetched', 'cat');
CALL mysql.ml_set_setting('huggingface_host', 'no host/');
CALL mysql.ml_set_setting('huggingface_host', '{{endpoint}}');
--@ clear
SELECT JSON_REMOVE(ml_fetch_model('fetched'), '$.seconds') AS fetched;
--@ requests
SELECT mysql.ml_embedding('fetched', 'cat') = mysql.ml_embedding('tiny', 'cat') AS same;
SELECT JSON_REMOVE(ml_fetch_model('fetched'), '$.seconds') AS fetched_again;
CALL mysql.ml_fetch_model('bert_local');
CALL mysql.ml_fetch_model('tiny');
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_load_model('d');
CALL mysql.ml_set_setting('egress_allowlist', 'huggingface.co');
CALL mysql.ml_fetch_model('fetched');
CALL mysql.ml_set_setting('egress_allowlist', NULL);
CALL mysql.ml_set_setting('huggingface_host', NULL);
-- CLIP: texts and images in one space.
CALL mysql.ml_create_model_registration('pictures', 'tiny-clip', 'clip_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SET @png = FROM_BASE64('iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFCAIAAAAG+GGPAAAAIklEQVR42mNkYGBgwYLYGBgYGNEQXJQJGSGLMsMRmijUWAAYpwB0f0EepgAAAABJRU5ErkJggg==');
SELECT model_type FROM mysql.cloudsql_ml_models WHERE model_id = 'pictures';
SELECT VECTOR_DIM(mysql.ml_image_embedding('pictures', @png, NULL)) AS image, VECTOR_DIM(mysql.ml_embedding('pictures', 'a photo of a cat')) AS text;
SELECT ROUND(dot_product(mysql.ml_image_embedding('pictures', @png, 'image/png'), ml_image_embedding('pictures', @png)), 4) AS length;
SELECT HEX(mysql.ml_image_embedding('pictures', TO_BASE64(@png), NULL)) = HEX(ml_image_embedding('pictures', @png)) AS base64;
SELECT mysql.ml_image_embedding('pictures', NULL, NULL) IS NULL AS null_image;
SELECT mysql.ml_image_embedding('pictures', x'474946383961', NULL);
SELECT mysql.ml_image_embedding('pictures', LEFT(@png, 60), NULL);
SELECT mysql.ml_image_embedding('pictures', 'gs://bucket/red.jpg', NULL);
SELECT mysql.ml_generate('pictures', 'say hello', NULL);
-- T5: text from text.
CALL mysql.ml_create_model_registration('writer', 'tiny-t5', 't5_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- What transformers writes with the same made-up weights.
SELECT LEFT(mysql.ml_generate('writer', 'translate English to German: the house is wonderful', NULL), 34) AS answer;
SELECT mysql.ml_generate('writer', NULL, NULL) IS NULL AS null_prompt;
SELECT mysql.ml_generate('writer', 'hello', '{"max_tokens": 3}');
SELECT mysql.ml_generate('writer', 'hello', '{"no_such_option": 3}');
SELECT mysql.ml_embedding('writer', 'hello');
SELECT JSON_EXTRACT(mysql.ml_validate_model('pictures'), '$.ok', '$.dimensions') AS pictures, JSON_EXTRACT(mysql.ml_validate_model('writer'), '$.ok') AS writer;
CALL mysql.ml_drop_model_registration('pictures');
CALL mysql.ml_drop_model_registration('writer');
-- As an account without rights.
CREATE USER nobody;
GRANT ml_user TO nobody;
--@ user nobody
SET ROLE ml_user;
SELECT VECTOR_DIM(mysql.ml_embedding('tiny', 'a user')) AS dimensions;
CALL mysql.ml_load_model('tiny');
SELECT ml_unload_model('tiny');
SELECT ml_fetch_model('tiny');
--@ user root
DROP USER nobody;
CALL mysql.ml_drop_model_registration('d');
CALL mysql.ml_drop_model_registration('fetched');
CALL mysql.ml_drop_model_registration('words');
CALL mysql.ml_drop_model_registration('tiny');
-- Ranking by a cross-encoder inside the server.
CALL mysql.ml_create_model_registration('rank', 'tiny-rerank', 'bert_rerank_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT r.place, ROUND(r.score, 3) AS score, r.document
  FROM JSON_TABLE(ai.rerank('rank', 'where is my parcel', '["the cat sat on the mat", "my order is slow", "the cat sat on the mat", ""]', NULL), '$[*]' COLUMNS (
    place INT PATH '$.index', score DOUBLE PATH '$.score', document TEXT PATH '$.document')) AS r;
SELECT JSON_EXTRACT(ai_rerank('rank', 'cat', '["dog", "cat", "mat"]', 1), '$[*].index') AS best;
-- Hundreds of documents are computed in parts, and each has the score that it has alone.
SET @many = (SELECT JSON_ARRAYAGG(CONCAT('the cat ', REPEAT('sat ', i % 7))) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n) AS numbers);
SELECT COUNT(*) AS documents, COUNT(DISTINCT place) AS places, SUM(r.score = JSON_EXTRACT(ai.rerank('rank', 'where is the cat', JSON_ARRAY(r.document), NULL), '$[0].score')) AS same
  FROM JSON_TABLE(ai.rerank('rank', 'where is the cat', @many, NULL), '$[*]' COLUMNS (
    place INT PATH '$.index', score DOUBLE PATH '$.score', document TEXT PATH '$.document')) AS r;
-- A pair that is too long: an error that names the document, unless the option says that it may be cut.
SELECT ai.rerank('rank', 'cat', JSON_ARRAY('dog', REPEAT('dog ', 20)), NULL);
CALL mysql.ml_set_model_options('rank', '{"truncate": true}');
SELECT JSON_LENGTH(ai.rerank('rank', 'cat', JSON_ARRAY('dog', REPEAT('dog ', 20)), NULL)) AS documents;
SELECT JSON_EXTRACT(mysql.ml_validate_model('rank'), '$.ok', '$.capability') AS valid;
SELECT JSON_EXTRACT(mysql.ml_status(), '$.local.models[*].provider', '$.local.models[*].kind') LIKE '%"bert_rerank_local"%"cross_encoder"%' AS loaded;
SELECT JSON_EXTRACT(mysql.ml_status(), '$.models.rank.requests') AS counted;
-- What it does not do.
SELECT mysql.ml_embedding('rank', 'cat');
SELECT mysql.ml_generate('rank', 'cat', NULL);
SELECT mysql.ml_predict_row('rank', '{}');
SELECT ai.explain_request('ai.rerank', '{"model_id": "rank", "query": "x", "documents": ["y"]}');
CALL mysql.ml_create_model_registration('tiny', 'tiny', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.rerank('tiny', 'x', '["y"]', NULL);
CALL mysql.ml_drop_model_registration('tiny');
CALL mysql.ml_create_model_registration('x', 'tiny-rerank', 'bert_rerank_local', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
-- Files of another kind, and a default whose files nobody has fetched.
CALL mysql.ml_alter_model_registration('rank', 'tiny', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT ai.rerank('rank', 'x', '["y"]', NULL);
SELECT ai.rerank('bert_rerank_local', 'x', '["y"]', NULL) REGEXP 'x' AS never;
CALL mysql.ml_drop_model_registration('rank');
