-- ai.generate_table: a language model about the rows of a table.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('llm', '{{endpoint}}/openai/v1', 'open_ai', 'llm', 'gpt-4o', 'secret_manager', 'key', NULL, NULL, NULL);
CREATE DATABASE g;
CREATE TABLE g.notes (id INT PRIMARY KEY, kind VARCHAR(20), body TEXT, answer TEXT, yes TINYINT, r DOUBLE, label VARCHAR(10), fields JSON, touched TIMESTAMP NULL ON UPDATE CURRENT_TIMESTAMP);
INSERT INTO g.notes (id, kind, body) VALUES (1, 'bug', 'yes, it crashed'), (2, 'billing', 'an invoice'), (3, NULL, 'no kind'), (4, 'bug', NULL), (5, 'bug', 'yes, it crashed');
--@ requests
-- A column, an expression, a template.
CALL ai.generate_table('llm', 'g.notes', 'body', 'answer', NULL);
--@ requests
SELECT id, answer FROM g.notes ORDER BY id;
CALL ai.generate_table('llm', 'g.notes', 'body', 'answer', NULL);
UPDATE g.notes SET answer = NULL;
CALL ai.generate_table('llm', 'g.notes', 'CONCAT(UPPER(kind), '': '', body)', 'answer', '{"where": "id < 3"}');
SELECT id, answer FROM g.notes ORDER BY id;
UPDATE g.notes SET answer = NULL;
CALL ai.generate_table('llm', 'g.notes', 'Is this a {kind}? It''s {`body`} {unknown}', 'answer', '{"where": "id = 1"}');
--@ last BODY
CALL ai.generate_table('llm', 'g.notes', 'Is this a {kind}? It''s {`body`} {unknown}', 'answer', NULL);
SELECT id, answer FROM g.notes ORDER BY id;
-- Every task, into columns of its type.
UPDATE g.notes SET touched = NULL;
CALL ai.generate_table('llm', 'g.notes', 'body', 'yes', '{"task": "if"}');
CALL ai.generate_table('llm', 'g.notes', 'score=0.25 for {body}', 'r', '{"task": "rank"}');
CALL ai.generate_table('llm', 'g.notes', '{kind}: {body}', 'label', '{"task": "classify", "labels": ["bug", "billing"]}');
CALL ai.generate_table('llm', 'g.notes', 'kind: {kind}', 'fields', '{"task": "extract", "fields": {"kind": "text"}}');
SELECT id, yes, r, label, fields, touched IS NULL AS untouched FROM g.notes ORDER BY id;
UPDATE g.notes SET answer = NULL, touched = NULL;
CALL ai.generate_table('llm', 'g.notes', 'body', 'answer', '{"task": "translate", "language": "German", "max_rows": 1}');
CALL ai.generate_table('llm', 'g.notes', 'body', 'answer', '{"task": "summarize", "max_rows": 1}');
CALL ai.generate_table('llm', 'g.notes', 'body', 'answer', '{"task": "sentiment", "max_rows": 1}');
-- One bad row costs itself: its error is noted, and the next run asks again.
CREATE TABLE g.bad (id INT PRIMARY KEY, body TEXT, answer VARCHAR(16), answer_hash BINARY(32));
INSERT INTO g.bad (id, body) VALUES (1, 'short'), (2, '[[refuse]]'), (3, 'an answer that does not fit the column'), (4, 'fits');
CALL ai.generate_table('llm', 'g.bad', 'body', 'answer', NULL);
SELECT id, answer FROM g.bad ORDER BY id;
SELECT row_key, error FROM mysql.cloudsql_ml_embed_failures WHERE table_name = 'bad' ORDER BY row_key;
UPDATE g.bad SET body = 'mended' WHERE id = 2;
CALL ai.generate_table('llm', 'g.bad', 'body', 'answer', NULL);
-- With a digest, changed texts are asked about again.
UPDATE g.bad SET body = 'changed' WHERE id = 1;
CALL ai.generate_table('llm', 'g.bad', 'body', 'answer', '{"where": "id <> 3"}');
SELECT id, answer FROM g.bad ORDER BY id;
-- What cannot be told stays NULL and is a failure.
CREATE TABLE g.doubt (id INT PRIMARY KEY, body TEXT, yes BOOLEAN);
INSERT INTO g.doubt (id, body) VALUES (1, 'yes'), (2, 'that is unknown');
CALL ai.generate_table('llm', 'g.doubt', 'body', 'yes', '{"task": "if"}');
SELECT * FROM g.doubt ORDER BY id;
-- Failures that are too many end it; what was answered stays.
CALL ai.generate_table('llm', 'g.doubt', 'body', 'yes', '{"task": "if", "max_error_ratio": 0.1}');
CALL ai.generate_table('llm', 'g.doubt', 'body', 'yes', '{"task": "if", "on_error": "stop"}');
-- A dry run sends nothing.
CREATE TABLE g.dry (id INT PRIMARY KEY, body TEXT, answer TEXT);
INSERT INTO g.dry (id, body) VALUES (1, 'same'), (2, 'same'), (3, 'other'), (4, NULL);
--@ requests
CALL ai.generate_table('llm', 'g.dry', 'body', 'answer', '{"dry_run": true}');
--@ requests
CALL ai.generate_table('llm', 'g.dry', 'body', 'answer', NULL);
--@ requests
-- Errors.
CALL ai.generate_table('llm', 'g.dry', 'body', 'nothing', NULL);
CALL ai.generate_table('llm', 'g.dry', 'nothing', 'answer', NULL);
CALL ai.generate_table('llm', 'g.dry', 'What is it?', 'answer', NULL);
CALL ai.generate_table('llm', 'g.dry', 'body', 'answer', '{"task": "dance"}');
CALL ai.generate_table('llm', 'g.dry', 'body', 'answer', '{"task": "classify"}');
CALL ai.generate_table('llm', 'g.dry', 'body', 'answer', '{"colour": 1}');
CALL ai.generate_table(NULL, 'g.dry', 'body', 'answer', NULL);
CALL ai.generate_table('nobody', 'g.dry', 'body', 'answer', NULL);
ALTER TABLE g.dry ADD v VECTOR(3);
CALL ai.generate_table('llm', 'g.dry', 'body', 'v', NULL);
-- Rights: EXECUTE on the procedure, and the caller's on the table.
CREATE USER g_user;
GRANT SELECT ON g.* TO g_user;
--@ user g_user
SELECT ai_generate_table('llm', 'g.dry', 'body', 'answer');
--@ user root
GRANT EXECUTE ON PROCEDURE ai.generate_table TO g_user;
--@ user g_user
CALL ai.generate_table('llm', 'g.dry', 'body', 'answer', NULL);
--@ user root
DROP USER g_user;
DROP DATABASE g;
CALL mysql.ml_drop_model_registration('llm');
CALL mysql.ml_drop_sm_secret_registration('key');
