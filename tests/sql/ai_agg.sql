-- ai_agg, ai_agg_summarize: one answer about the texts of a group.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('llm', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
CREATE DATABASE a;
CREATE TABLE a.notes (id INT PRIMARY KEY, kind VARCHAR(10), body TEXT);
INSERT INTO a.notes VALUES (1, 'x', 'first'), (2, 'x', 'second'), (3, 'y', 'a "quoted"\nline'), (4, 'z', NULL);
--@ requests
SELECT ai_agg(body, 'List them.', 'llm') AS answer FROM a.notes WHERE kind = 'x';
--@ last BODY
--@ requests
SELECT kind, ai_agg_summarize(body, 'llm') AS summary FROM a.notes GROUP BY kind ORDER BY kind;
--@ last BODY
--@ requests
SELECT ai_agg(body, 'List them.', 'llm') AS none FROM a.notes WHERE id > 9;
SELECT ai_agg(body, NULL, 'llm') AS no_instruction FROM a.notes;
SELECT ai_agg(body, 'List them.') FROM a.notes;
-- A group that is larger than one request is asked about in parts, whose results are combined.
CREATE TABLE a.many (id INT PRIMARY KEY, body VARCHAR(100));
INSERT INTO a.many WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 40) SELECT i, CONCAT('note number ', i) FROM n;
--@ requests
SELECT LENGTH(ai_agg(body, 'Count them.', 'llm', '{"max_input_tokens": 100}')) > 0 AS answered FROM a.many;
--@ requests
-- No text is left out: all are in one request where they fit, a long one in pieces where it does not.
SELECT LOCATE('"note number 1"', BINARY ai_agg(body, 'Count them.', 'llm')) > 0 AS first, LOCATE('"note number 40"', BINARY ai_agg(body, 'Count them.', 'llm')) > 0 AS last FROM a.many;
--@ requests
-- Failures.
SELECT ai_agg(CONCAT(body, ' [[refuse]]'), 'List them.', 'llm') FROM a.notes WHERE kind = 'x';
SELECT kind, ai_agg(IF(id = 1, '[[refuse]]', body), 'List them.', 'llm', '{"on_error": "null"}') AS answer FROM a.notes GROUP BY kind ORDER BY kind;
SHOW WARNINGS;
SELECT ai_agg(body, IF(id = 1, 'one', 'two'), 'llm') FROM a.notes;
SELECT ai_agg(body, '', 'llm') FROM a.notes;
SELECT ai_agg(body, 'List them.', 'llm', '{"on_error": "detail"}') FROM a.notes;
SELECT ai_agg(body, 'List them.', 'llm', '{"max_input_tokens": 1}') FROM a.notes;
SELECT ai_agg(body, 'List them.', 'llm', '{"json_schema": {}}') FROM a.notes;
SELECT kind, ai_agg(body, 'List them.', 'llm') FROM a.notes WHERE body IS NOT NULL GROUP BY kind WITH ROLLUP;
-- Rights: EXECUTE on ai.generate, ai.summarize.
CREATE USER agg_user;
GRANT SELECT ON a.* TO agg_user;
GRANT EXECUTE ON FUNCTION ai.generate TO agg_user;
--@ user agg_user
SELECT ai_agg(body, 'List them.', 'llm') IS NOT NULL AS allowed FROM a.notes;
SELECT ai_agg_summarize(body, 'llm') FROM a.notes;
--@ user root
DROP USER agg_user;
DROP DATABASE a;
CALL mysql.ml_drop_model_registration('llm');
CALL mysql.ml_drop_sm_secret_registration('key');
