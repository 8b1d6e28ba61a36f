-- What is remembered of a call, by the statement, in memory or on its way, is given to nothing but the same call:
-- model, options, role, text and account decide.
CALL mysql.ml_create_model_registration('four', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('eight', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('ab', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('a', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('a', '{"dimensions": 5}');
CREATE DATABASE k;
USE k;
CREATE TABLE calls (n INT PRIMARY KEY, model VARCHAR(10), content VARCHAR(20) COLLATE utf8mb4_bin);
INSERT INTO calls VALUES (1, 'four', 'same'), (2, 'eight', 'same'), (3, 'eight', 'same'), (4, 'four', 'same'), (5, 'ab', 'c'), (6, 'a', 'bc'), (7, 'ab', 'c');
-- Two models and one text in one statement: each row has the width of its own model. From memory, and without it.
SELECT n, model, VECTOR_DIM(ml_embedding(model, content)) AS bare, VECTOR_DIM(mysql.ml_embedding(model, content)) AS routine, VECTOR_DIM(ml_query_embedding(model, content)) AS query FROM calls ORDER BY n;
CALL mysql.ml_set_setting('cache_memory_mb', '0');
SELECT n, model, VECTOR_DIM(ml_embedding(model, content)) AS bare, VECTOR_DIM(mysql.ml_embedding(model, content)) AS routine, VECTOR_DIM(ml_query_embedding(model, content)) AS query FROM calls ORDER BY n;
-- The next call with the same text is remembered by the statement, one with another model or text is not.
--@ clear
SELECT SUM(VECTOR_DIM(ml_embedding(model, content))) AS dimensions FROM (SELECT model, content FROM calls WHERE n <= 4 ORDER BY n LIMIT 4) AS c;
--@ requests
-- Texts that a collation takes for the same, and that end or begin alike.
CREATE TABLE texts (n INT PRIMARY KEY, content VARCHAR(20) COLLATE utf8mb4_0900_ai_ci);
INSERT INTO texts VALUES (1, 'word'), (2, 'Word'), (3, 'word '), (4, 'wörd'), (5, 'word'), (6, 'word\0'), (7, 'wor');
SELECT COUNT(DISTINCT HEX(ml_embedding('eight', content))) AS vectors FROM texts;
SELECT COUNT(*) AS wrong FROM texts AS t WHERE ml_embedding('eight', content) <> (SELECT mysql.ml_embedding('eight', CONCAT(x.content, '')) FROM texts AS x WHERE x.n = t.n);
CALL mysql.ml_set_setting('cache_memory_mb', NULL);
SELECT COUNT(DISTINCT HEX(ml_embedding('eight', content))) AS vectors FROM texts;
SELECT COUNT(*) AS wrong FROM texts AS t WHERE ml_embedding('eight', content) <> (SELECT mysql.ml_embedding('eight', CONCAT(x.content, '')) FROM texts AS x WHERE x.n = t.n);
-- Models that differ in an option only.
CALL mysql.ml_create_model_registration('plain', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('short', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('short', '{"dimensions": 7}');
SELECT VECTOR_DIM(ml_embedding('plain', 'text')) AS plain, VECTOR_DIM(ml_embedding('short', 'text')) AS short;
CALL mysql.ml_set_model_options('short', '{"dimensions": null}');
SELECT ml_embedding('short', 'text') = ml_embedding('plain', 'text') AS same_again;
-- Documents and queries of a model that tells them apart: two requests in one statement, each with its own role.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('roles', '{{endpoint}}/cohere/v2', 'cohere', 'text_embedding', 'embed-v4.0', 'secret_manager', 'key', NULL, NULL, NULL);
--@ clear
SELECT VECTOR_DIM(ml_embedding('roles', 'role')) > 0 AS document;
--@ last BODY
SELECT VECTOR_DIM(ml_query_embedding('roles', 'role')) > 0 AS query;
--@ last BODY
SELECT VECTOR_DIM(ml_embedding('roles', 'role')) > 0 AS document, VECTOR_DIM(ml_query_embedding('roles', 'role')) > 0 AS query;
--@ requests
-- A statement that is prepared once and executed with other values.
PREPARE p FROM 'SELECT VECTOR_DIM(ml_embedding(?, ?)) AS dimensions, HEX(ml_embedding(?, ?)) = HEX(mysql.ml_embedding(?, ?)) AS right_text';
SET @m = 'four', @t = 'prepared';
EXECUTE p USING @m, @t, @m, @t, @m, @t;
SET @m = 'eight';
EXECUTE p USING @m, @t, @m, @t, @m, @t;
SET @t = 'another';
EXECUTE p USING @m, @t, @m, @t, @m, @t;
DEALLOCATE PREPARE p;
-- A loop of a stored program, where one call of the text of the program serves all turns.
DELIMITER //
CREATE PROCEDURE turns()
BEGIN
  DECLARE done INT DEFAULT 0;
  DECLARE m VARCHAR(10);
  DECLARE widths TEXT DEFAULT '';
  DECLARE c CURSOR FOR SELECT model FROM calls ORDER BY n;
  DECLARE EXIT HANDLER FOR NOT FOUND SELECT widths;
  OPEN c;
  LOOP
    FETCH c INTO m;
    SET widths = CONCAT(widths, ' ', VECTOR_DIM(ml_embedding(m, 'turn')));
  END LOOP;
END//
DELIMITER ;
CALL turns();
-- What an account may not call it is not given from memory either.
CREATE USER nobody;
--@ user nobody
SELECT ml_embedding('eight', 'same') AS refused;
SELECT mysql.ml_embedding('eight', 'same') AS refused;
--@ user root
DROP USER nobody;
-- Answers of models that generate are never remembered: they may differ.
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/v1/chat/completions', 'open_ai', 'llm', 'chat', NULL, NULL, NULL, NULL, NULL);
--@ clear
SELECT COUNT(ml_generate('chat', 'hello', NULL)) AS answers FROM (SELECT n FROM calls LIMIT 3) AS three;
SELECT COUNT(ml_predict_row('chat', '{"messages": [{"role": "user", "content": "hello"}]}')) AS answers FROM (SELECT n FROM calls LIMIT 3) AS three;
--@ requests
-- A NULL model is that of the setting at the time of the call, in the next row and in the next execution too.
CALL mysql.ml_create_model_registration('l1', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('l2', '{{endpoint}}/mistral/v1', 'mistral', 'llm', 'mistral-small-latest', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_set_setting('default_llm', 'l1');
PREPARE p FROM 'SELECT ai_if(''yes'', NULL) AS answer';
--@ clear
EXECUTE p;
EXECUTE p;
--@ last PATH
--@ requests
CALL mysql.ml_set_setting('default_llm', 'l2');
EXECUTE p;
--@ last PATH
--@ requests
DEALLOCATE PREPARE p;
CALL mysql.ml_set_setting('default_llm', 'l1');
SELECT n, ai_if(IF(n > 0, 'yes', ''), NULL) AS answer, ml_set_setting('default_llm', IF(n > 0, 'l2', '')) IS NULL AS unchanged FROM calls WHERE n < 4;
--@ last PATH
--@ requests
CALL mysql.ml_set_setting('default_llm', NULL);
DROP DATABASE k;
CALL mysql.ml_drop_model_registration('four');
CALL mysql.ml_drop_model_registration('eight');
CALL mysql.ml_drop_model_registration('ab');
CALL mysql.ml_drop_model_registration('a');
CALL mysql.ml_drop_model_registration('plain');
CALL mysql.ml_drop_model_registration('short');
CALL mysql.ml_drop_model_registration('roles');
CALL mysql.ml_drop_model_registration('chat');
CALL mysql.ml_drop_model_registration('l1');
CALL mysql.ml_drop_model_registration('l2');
CALL mysql.ml_drop_sm_secret_registration('key');
