-- Searches by vector and words, fused by reciprocal rank and ranked again by a model.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('rank', '{{endpoint}}/tei/rerank', 'hugging_face', 'reranking', NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/v1/chat/completions', 'open_ai', 'llm', 'gpt-test', NULL, NULL, NULL, NULL, NULL);
CREATE DATABASE x;
USE x;
CREATE TABLE docs (id INT PRIMARY KEY, kind VARCHAR(10), title VARCHAR(100), body TEXT, v VECTOR(2), FULLTEXT (body), FULLTEXT both_of (title, body));
INSERT INTO docs VALUES
  (1, 'a', 'Router', 'the router blinks red', STRING_TO_VECTOR('[1, 0]')),
  (2, 'a', 'Refunds', 'a refund takes a week', STRING_TO_VECTOR('[0.9, 0.1]')),
  (3, 'b', 'Refund', 'ask for your refund within thirty days, a refund is free', STRING_TO_VECTOR('[0.1, 0.9]')),
  (4, 'b', 'Wifi', 'change the channel of the wifi', STRING_TO_VECTOR('[0.8, 0.2]')),
  (5, 'b', 'Hours', 'open from nine to five', NULL),
  (6, 'b', 'Parcels', 'no vector, but a refund', NULL),
  (7, 'c', 'Nothing', NULL, STRING_TO_VECTOR('[0, 1]'));
-- Words are weighed by the server's statistics.
ANALYZE TABLE docs;
SET @q = STRING_TO_VECTOR('[1, 0]');
-- Rows of both branches, rows of one of them: a row without a vector has no distance, one without the words no relevance.
CALL ai.search('x.docs', 'v', @q, 10, '{"columns": ["id"], "text_column": "body", "text": "refund"}');
SELECT ml_vector_search_status();
-- The order is that of the scores, which can be computed from the ranks.
SELECT 1/62 + 1/62 AS two, 1/65 + 1/61 AS three, 1/61 AS one, 1/62 AS six, 1/63 AS four;
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id"], "text_column": "body", "text": "refund"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id"], "text_column": "body", "text": "refund", "weights": {"vector": 0.1, "text": 3}}');
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id"], "text_column": "body", "text": "refund", "rank_constant": 0}');
-- The filter is that of both branches.
CALL ai.search('x.docs', 'v', @q, 10, '{"columns": ["id", "kind"], "text_column": "body", "text": "refund", "where": "kind = ''b''"}');
-- The columns of another index, in any order and case; the query is the text.
CALL ai.search('x.docs', 'v', 'Refund', 2, '{"columns": ["id", "title"], "text_column": ["BODY", "`title`"], "model_id": "m", "distance_measure": "l2_squared"}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.vector_rows') AS vectors_of_other_widths, JSON_VALUE(ml_vector_search_status(), '$.text_rows') AS text_rows;
-- By the index as by the table.
CALL ai.create_vector_index('x.docs', 'v', NULL);
CALL ai.search('x.docs', 'v', @q, 10, '{"columns": ["id"], "text_column": "body", "text": "refund"}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.path') AS path, JSON_VALUE(ml_vector_search_status(), '$.vector_rows') AS vector_rows, JSON_VALUE(ml_vector_search_status(), '$.text_rows') AS text_rows;
-- No usable word: no row by words, which the status says.
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"], "text_column": "body", "text": "to the of"}');
SELECT ml_vector_search_status();
-- Signs of the text are no operators, whatever they are.
CALL ai.search('x.docs', 'v', @q, 1, '{"columns": ["id"], "text_column": "body", "text": "+wifi -\\"channel* ( ''; DROP TABLE x.docs; -- @"}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.text_rows') AS text_rows, JSON_VALUE(ml_vector_search_status(), '$.text_note') AS note;
-- A row that a transaction has deleted is not found; words of its new rows are found after the commit only.
START TRANSACTION;
DELETE FROM docs WHERE id = 3;
INSERT INTO docs VALUES (8, 'b', 'New', 'a new refund', NULL);
CALL ai.search('x.docs', 'v', @q, 10, '{"columns": ["id"], "text_column": "body", "text": "refund"}');
COMMIT;
CALL ai.search('x.docs', 'v', @q, 10, '{"columns": ["id"], "text_column": "body", "text": "refund"}');
-- Ranked again: by a reranking model and by a language model. Rows without a text come last, without a score.
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id", "body"], "text_column": "body", "text": "refund week", "rerank": "rank"}');
SELECT ml_vector_search_status();
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"], "text_column": "body", "text": "refund week", "rerank": "chat", "rerank_depth": 2}');
CALL ai.search('x.docs', 'v', @q, 9, '{"columns": ["id", "title"], "text": "Wifi", "rerank": "rank", "rerank_column": "body"}');
CALL ai.search('x.docs', 'v', @q, 1, '{"columns": ["id"], "text": "Wifi", "rerank": "rank", "rerank_column": ["title", "body"]}');
--@ last BODY
CALL ai.search('x.docs', 'v', @q, 2, '{"text": "x", "rerank": "rank", "rerank_column": "body", "where": "id > 99"}');
SELECT ml_vector_search_status();
-- A ranking that fails is an error, whatever the model's option says.
INSERT INTO docs VALUES (9, 'd', 'Slow', 'refund [[status:400]]', STRING_TO_VECTOR('[1, 0]'));
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"], "text": "refund", "rerank": "chat", "rerank_column": "body"}');
CALL mysql.ml_set_model_options('chat', '{"on_error": "null"}');
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"], "text": "refund", "rerank": "chat", "rerank_column": "body"}');
DELETE FROM docs WHERE id = 9;
-- Keys of several columns, of any type; keys that are equal by collation; a column with the name of a result.
CREATE TABLE keyed (a VARCHAR(10), b DATETIME, c BINARY(2), score INT, body TEXT, v VECTOR(2), PRIMARY KEY (a, b, c), FULLTEXT (body));
INSERT INTO keyed VALUES ('é''1', '2026-01-02 03:04:05', x'00ff', 7, 'red words', STRING_TO_VECTOR('[1, 0]')), ('e', '2026-01-02', x'0001', 8, 'green words', STRING_TO_VECTOR('[0, 1]'));
CALL ai.create_vector_index('x.keyed', 'v', NULL);
UPDATE keyed SET a = 'E' WHERE a = 'e';
ANALYZE TABLE keyed;
CALL ai.search('x.keyed', 'v', '[1, 0]', 3, '{"columns": ["a", "b"], "text_column": "body", "text": "green"}');
CALL ai.search('x.keyed', 'v', '[1, 0]', 1, '{"text": "green", "rerank": "rank", "rerank_column": "body"}');
-- Texts of other character sets, and of languages without spaces.
CREATE TABLE others (id INT PRIMARY KEY, l VARCHAR(50) CHARACTER SET latin1, n TEXT, v VECTOR(2), FULLTEXT (l), FULLTEXT (n) WITH PARSER ngram);
INSERT INTO others VALUES (1, 'grüne wörter', '数据库的全文检索', NULL), (2, 'other', '天气很好', NULL);
ANALYZE TABLE others;
CALL ai.search('x.others', 'v', '[1, 0]', 3, '{"columns": ["id"], "text_column": "l", "text": "grüne 数据"}');
CALL ai.search('x.others', 'v', '[1, 0]', 3, '{"columns": ["id"], "text_column": "n", "text": "检索"}');
-- What is refused.
CALL ai.search('x.docs', 'v', @q, 3, '{"text_column": "title", "text": "x"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"text_column": "nothing", "text": "x"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"text_column": "body"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"rerank": "rank", "rerank_column": "body"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"rerank": "rank", "text": "x"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"rerank": "rank", "text": "x", "rerank_column": "nothing"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"rerank": "rank", "text": "x", "rerank_column": "body", "rerank_depth": 2}');
CALL ai.search('x.docs', 'v', @q, 3, '{"rerank": "none", "text": "x", "rerank_column": "body"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"rerank": "m", "text": "x", "rerank_column": "body"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"weights": {"text": 2}}');
CALL ai.search('x.docs', 'v', @q, 3, '{"text_column": "body", "text": "x", "weights": {"text": 0}}');
CALL ai.search('x.docs', 'v', @q, 3, '{"limit": 1}');
SELECT CONCAT('{"text_column": "body", "text": "', REPEAT('word ', 4000), '"}') INTO @long;
CALL ai.search('x.docs', 'v', @q, 3, @long);
CALL ai.drop_vector_index('x.docs', 'v', NULL);
CALL ai.drop_vector_index('x.keyed', 'v', NULL);
CALL mysql.ml_drop_model_registration('m');
CALL mysql.ml_drop_model_registration('rank');
CALL mysql.ml_drop_model_registration('chat');
DROP DATABASE x;
