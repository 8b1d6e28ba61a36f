-- ai.query: a SELECT whose calls of models are made together.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('llm', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('emb', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'test-4', 'secret_manager', 'key', NULL, NULL, NULL);
CREATE DATABASE q;
CREATE TABLE q.notes (id INT PRIMARY KEY, body VARCHAR(200), v VECTOR(4));
INSERT INTO q.notes (id, body) VALUES (1, 'yes, one'), (2, 'two'), (3, 'yes, three'), (4, NULL), (5, 'yes, one');
--@ requests
CALL ai.query('SELECT id, body FROM q.notes WHERE ai.if(body, ''llm'') ORDER BY id', NULL);
-- Distinct inputs are asked once.
--@ requests
-- In the select list, nested, with other functions, loadable forms.
CALL ai.query('SELECT id, ai_if(body, ''llm'') AS yes, ai.rank(CONCAT(body, '' score=0.25''), ''llm'') AS r, ai_classify(body, ''["one", "two"]'', ''llm'') AS c FROM q.notes ORDER BY id;', '{"concurrency": 4}');
--@ requests
-- A condition decides what is asked behind it: unknown conditions are false in a pass, so that a second pass asks.
CALL ai.query('SELECT id FROM q.notes WHERE ai.if(body, ''llm'') AND ai.rank(CONCAT(body, '' score=0.75''), ''llm'') > 0.5 ORDER BY id', NULL);
--@ requests
-- Embeddings too.
CALL ai.query('SELECT id, LENGTH(mysql.ml_embedding(''emb'', body)) AS bytes, ml_query_embedding(''emb'', body) IS NULL AS n FROM q.notes ORDER BY id', NULL);
--@ requests
CALL ai.query('SELECT id, ROUND(ai.similarity(CONCAT(body, '' compared''), ''yes, one compared'', ''emb''), 6) = 1 AS same, LENGTH(ai.embedding(''emb'', CONCAT(body, '' alone''))) AS bytes, ai_similarity(''yes, one compared'', CONCAT(body, '' alone''), ''emb'') BETWEEN -1 AND 1 AS between_two FROM q.notes ORDER BY id', NULL);
--@ last BODY
--@ requests
-- What fails does so where the statement runs, by its own rules, and is not asked again.
CALL ai.query('SELECT id, ai_if(CONCAT(body, '' [[refuse]]''), ''llm'', ''{"on_error": "null"}'') AS x FROM q.notes WHERE id < 3 ORDER BY id', NULL);
SHOW WARNINGS;
--@ requests
CALL ai.query('SELECT id, ai_if(CONCAT(body, '' [[refuse]]''), ''llm'') AS x FROM q.notes WHERE id = 1', NULL);
CALL ai.query('SELECT id, ai_if(IF(id = 1, ''[[refuse]]'', body), ''llm'', ''{"on_error": "null"}'') AS x FROM q.notes ORDER BY id', '{"max_error_ratio": 0.1}');
-- A drawn answer is asked for each row when the statement runs.
--@ requests
CALL ai.query('SELECT COUNT(ai_if(body, ''llm'', ''{"temperature": 1}'')) AS n FROM q.notes', NULL);
--@ requests
-- Nothing of it stays for the next statement.
SELECT ai.if('yes, one', 'llm') AS again;
--@ requests
-- The caches keep what a function's own option says.
CALL ai.query('SELECT COUNT(ai_if(CONCAT(body, '' kept''), ''llm'', ''{"cache_answers": true}'')) AS n FROM q.notes', NULL);
--@ requests
CALL ai.query('SELECT COUNT(ai_if(CONCAT(body, '' kept''), ''llm'', ''{"cache_answers": true}'')) AS n FROM q.notes', NULL);
SELECT ai_if('two kept', 'llm', '{"cache_answers": true}') AS kept;
--@ requests
CALL mysql.ml_set_model_options('llm', '{"cache_answers": true}');
CALL ai.query('SELECT COUNT(ai_if(CONCAT(body, '' not kept''), ''llm'', ''{"cache_answers": false}'')) AS n FROM q.notes', NULL);
CALL ai.query('SELECT COUNT(ai_if(CONCAT(body, '' not kept''), ''llm'', ''{"cache_answers": false}'')) AS n FROM q.notes', NULL);
--@ requests
CALL mysql.ml_set_model_options('llm', '{"cache_answers": null}');
-- Warnings of the statement survive the procedure; without any there are none.
CALL ai.query('SELECT id, CAST(body AS SIGNED) AS x, ai.if(body, ''llm'') AS yes FROM q.notes WHERE id < 3 ORDER BY id', NULL);
SHOW WARNINGS;
CALL ai.query('SELECT ai.if(''yes'', ''llm'') AS yes', NULL);
SHOW WARNINGS;
--@ requests
-- An error that only a placeholder causes ends nothing: while the answers are missing, NOT is true for all rows.
CALL ai.query('SELECT (SELECT id FROM q.notes WHERE NOT ai.if(body, ''llm'')) AS one', NULL);
CALL ai.query('SELECT JSON_OBJECT(ml_generate(''llm'', ''name''), 1) AS o', NULL);
-- A text that is not sent with others is asked singly, and fails where the statement runs.
CALL ai.query('SELECT mysql.ml_embedding(''emb'', '''') IS NULL AS n', NULL);
--@ requests
-- What does more than read, or cannot run, is refused.
CALL ai.query('DELETE FROM q.notes', NULL);
CALL ai.query('SELECT 1; SELECT 2', NULL);
CALL ai.query('SELECT 1 INTO @x', NULL);
CALL ai.query('SELECT id FROM q.notes FOR UPDATE', NULL);
CALL ai.query('SELECT 1 INTO OUTFILE ''/tmp/x''', NULL);
CALL ai.query('SELECT @x := 1', NULL);
CALL ai.query('SELECT GET_LOCK(''a'', 1)', NULL);
CALL ai.query('SELECT `GET_LOCK`(''a'', 1), `SLEEP`(60)', NULL);
CALL ai.query('SELECT ai.if(@x, ''llm'')', NULL);
CALL ai.query('SELECT ai.if(body, ''llm'') FROM notes', NULL);
CALL ai.query('SELECT nothing FROM q.notes', NULL);
CALL ai.query('SELECT ai.if(body, ''nobody'') FROM q.notes', NULL);
CALL ai.query('SELECT 1', '{"colour": "red"}');
CALL ai.query('SELECT 1', '{"on_error": "null"}');
CALL ai.query(NULL, NULL);
DELIMITER //
CREATE FUNCTION q.writes() RETURNS INT MODIFIES SQL DATA BEGIN DELETE FROM q.notes; RETURN 1; END//
DELIMITER ;
CALL ai.query('SELECT q.writes() AS w', NULL);
SELECT COUNT(*) AS kept FROM q.notes;
-- Calls that are not collected are made when the statement runs, once.
--@ requests
CALL ai.query('SELECT ml_generate(''llm'', ''Say hello'') AS text, ai_if(''yes'', ''llm'') AS yes', NULL);
--@ requests
-- Rights: those of the caller, for tables and for functions.
CREATE USER q_user;
GRANT EXECUTE ON PROCEDURE ai.query TO q_user;
GRANT EXECUTE ON FUNCTION ai.if TO q_user;
--@ user q_user
CALL ai.query('SELECT id FROM q.notes WHERE ai.if(body, ''llm'')', NULL);
CALL ai.query('SELECT ai.rank(''x'', ''llm'') AS r', NULL);
CALL ai.query('SELECT ai.if(''yes'', ''llm'') AS yes', NULL);
SELECT ai_query('SELECT 1');
--@ user root
REVOKE EXECUTE ON PROCEDURE ai.query FROM q_user;
--@ user q_user
SELECT ai_query('SELECT 1');
--@ user root
DROP USER q_user;
-- 600 rows: windows of 256 and then 512.
CREATE TABLE q.many (id INT PRIMARY KEY);
INSERT INTO q.many WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 600) SELECT i FROM n;
--@ requests
CALL ai.query('SELECT COUNT(*) AS n, SUM(ai.if(CONCAT(IF(id % 3, ''yes '', ''not ''), id), ''llm'')) AS yes FROM q.many', '{"concurrency": 16}');
--@ requests
-- A LIMIT that is reached early asks little.
CALL ai.query('SELECT id FROM q.many WHERE ai.if(CONCAT(''yes, number '', id), ''llm'') ORDER BY id LIMIT 3', '{"concurrency": 16}');
--@ requests
DROP DATABASE q;
CALL mysql.ml_drop_model_registration('llm');
CALL mysql.ml_drop_model_registration('emb');
CALL mysql.ml_drop_sm_secret_registration('key');
