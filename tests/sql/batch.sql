-- ml_embedding_batch: an array of texts in, an array of vectors out.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('b', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'test-4', 'secret_manager', 'key', NULL, NULL, NULL);
--@ requests
-- The order is kept, nulls stay, and a text that occurs twice is sent once.
SELECT JSON_LENGTH(mysql.ml_embedding_batch('b', '["one", null, "two", "one"]')) AS n;
--@ last BODY
--@ requests
SELECT v.i, HEX(FROM_BASE64(v.e)) = HEX(mysql.ml_embedding('b', t.c)) AS same, v.e IS NULL AS is_null FROM JSON_TABLE(mysql.ml_embedding_batch('b', '["one", null, "two", "one"]'), '$[*]' COLUMNS (i FOR ORDINALITY, e VARCHAR(100) PATH '$')) v JOIN JSON_TABLE('["one", null, "two", "one"]', '$[*]' COLUMNS (i FOR ORDINALITY, c VARCHAR(100) PATH '$')) t ON t.i = v.i ORDER BY v.i;
--@ requests
-- Cached ones are not sent.
SELECT JSON_LENGTH(mysql.ml_embedding_batch('b', '["one", "three"]')) AS n;
--@ last BODY
SELECT mysql.ml_embedding_batch('b', '[]') AS none, mysql.ml_embedding_batch('b', '[null]') AS a_null, mysql.ml_embedding_batch('b', NULL) AS null_1, mysql.ml_embedding_batch(NULL, '["x"]') AS null_2;
-- Into a table.
CREATE DATABASE e;
USE e;
CREATE TABLE e.t (id INT PRIMARY KEY, body TEXT, v VECTOR(4));
INSERT INTO e.t (id, body) VALUES (1, 'red'), (2, 'green'), (3, 'blue');
UPDATE e.t JOIN (SELECT k.i, FROM_BASE64(k.e) AS e FROM (SELECT mysql.ml_embedding_batch('b', (SELECT JSON_ARRAYAGG(body) FROM (SELECT body FROM e.t ORDER BY id) o)) AS a) b, JSON_TABLE(b.a, '$[*]' COLUMNS (i FOR ORDINALITY, e VARCHAR(100) PATH '$')) k) x ON x.i = t.id SET t.v = x.e;
SELECT id, v = mysql.ml_embedding('b', body) AS same FROM e.t;
DROP DATABASE e;
-- A bad text fails the statement and is named; its neighbours do not fail where the option says so.
--@ requests
SELECT mysql.ml_embedding_batch('b', '["good", "", "fine"]');
CALL mysql.ml_set_model_options('b', '{"on_error": "inline"}');
SELECT j.i, j.e IS NOT NULL AS vector, j.error FROM JSON_TABLE(mysql.ml_embedding_batch('b', '["good", "", "fine", "well", "done"]'), '$[*]' COLUMNS (i FOR ORDINALITY, e VARCHAR(100) PATH '$' NULL ON ERROR, error VARCHAR(500) PATH '$.error')) j;
SHOW WARNINGS;
CALL mysql.ml_set_model_options('b', '{"on_error": "null"}');
SELECT JSON_TYPE(JSON_EXTRACT(a, '$[0]')) AS good, JSON_TYPE(JSON_EXTRACT(a, '$[1]')) AS failed, JSON_TYPE(JSON_EXTRACT(a, '$[2]')) AS a_null FROM (SELECT mysql.ml_embedding_batch('b', '["good", "", null]') AS a) AS x;
SHOW WARNINGS;
SELECT JSON_TYPE(JSON_EXTRACT(a, '$.x')) AS good, JSON_TYPE(JSON_EXTRACT(a, '$.y')) AS failed FROM (SELECT ml_embedding_agg('b', k, c) AS a FROM (SELECT 'x' AS k, 'good' AS c UNION ALL SELECT 'y', ' ') AS t) AS x;
SHOW WARNINGS;
-- What concerns all texts is never null.
CALL mysql.ml_create_model_registration('limited', '{{endpoint}}/status/429', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('limited', '{"on_error": "null", "max_retries": 0}');
SELECT mysql.ml_embedding_batch('limited', '["a"]');
-- No key, and a key that is not taken.
CALL mysql.ml_create_model_registration('nokey', '{{endpoint}}/status/401', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding_batch('nokey', '["a", "b"]');
CALL mysql.ml_alter_model_registration('nokey', '{{endpoint}}/status/403', NULL, NULL, NULL, 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_embedding_batch('nokey', '["a", "b"]');
-- Wrong arrays, wrong models.
SELECT mysql.ml_embedding_batch('b', '{"a": 1}');
SELECT mysql.ml_embedding_batch('b', '["a", 1]');
SELECT ml_embedding_batch('b', 'no array');
SELECT mysql.ml_embedding_batch('nobody', '["a"]');
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
SELECT mysql.ml_embedding_batch('chat', '["a"]');
-- Providers of one text a request, and models in the server. (How often the batches before were split depends on which
-- of two answers came first.)
--@ clear
CALL mysql.ml_create_model_registration('one', '{{endpoint}}/models/text/embeddings/v1', 'custom', 'text_embedding', NULL, NULL, NULL, NULL, 'json:{"prompt":["{{input}}"]}', 'path:$[0]');
SELECT JSON_LENGTH(mysql.ml_embedding_batch('one', '["a", "b", "c"]')) AS n;
--@ requests
CALL mysql.ml_create_model_registration('words', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT HEX(FROM_BASE64(JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_embedding_batch('words', '["some words"]'), '$[0]')))) = HEX(mysql.ml_embedding('words', 'some words')) AS same;
-- A provider that takes fewer texts than we send.
CALL mysql.ml_create_model_registration('tei', '{{endpoint}}/tei/embed', 'hugging_face', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('tei', '{"batch_size": 100}');
SET SESSION cte_max_recursion_depth = 1000;
SELECT JSON_LENGTH(mysql.ml_embedding_batch('tei', (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT JSON_ARRAYAGG(CONCAT('text ', i)) FROM n))) AS n;
DELETE FROM mysql.cloudsql_ml_models;
CALL mysql.ml_drop_sm_secret_registration('key');
