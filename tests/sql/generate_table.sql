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
-- Several columns from one answer: each field in the form of its column, NULL where the text does not state it.
CREATE TABLE g.cards (id INT PRIMARY KEY, body TEXT, name VARCHAR(20), year SMALLINT, price DECIMAL(8,2), open BOOLEAN, mood ENUM('good', 'bad'), tags JSON, raw JSON, touched TIMESTAMP NULL ON UPDATE CURRENT_TIMESTAMP);
INSERT INTO g.cards (id, body) VALUES (1, 'name: Ada''s \\ "x", year: 1815; price: 12.50; yes, good; tags: a'), (2, 'name: Grace'), (3, NULL), (4, 'name: Ada''s \\ "x", year: 1815; price: 12.50; yes, good; tags: a'), (5, '[[answer:{"name": "a name that is longer than its column", "year": 1, "price": 1, "open": null, "mood": null, "tags": [], "raw": null}]]'), (6, '[[answer:{"name": "late", "year": 99999, "price": null, "open": null, "mood": null, "tags": null, "raw": null}]]'), (7, '[[answer:{"name": null, "year": null, "price": null, "open": null, "mood": null, "tags": null, "raw": null}]]'), (8, '[[answer:{"name": "null", "year": 7.0, "price": 0, "open": false, "mood": "bad", "tags": ["b", "\\""], "raw": "text"}]]'), (9, '[[refuse]]');
SET @fields = '{"name": "text", "year": "integer", "price": "number", "open": "boolean", "mood": {"enum": ["good", "bad"]}, "tags": "text[]", "raw": "text"}';
UPDATE g.cards SET touched = NULL;
--@ requests
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": "name", "year": "`year`", "price": "PRICE", "open": "open", "mood": "mood", "tags": "tags", "raw": "raw"}', CONCAT('{"task": "extract", "dry_run": true, "fields": ', @fields, '}'));
--@ requests
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": "name", "year": "`year`", "price": "PRICE", "open": "open", "mood": "mood", "tags": "tags", "raw": "raw"}', CONCAT('{"task": "extract", "fields": ', @fields, '}'));
--@ requests
SELECT id, name, year, price, open, mood, tags, raw, touched IS NULL AS untouched FROM g.cards ORDER BY id;
SELECT embedding_column, row_key, error FROM mysql.cloudsql_ml_embed_failures WHERE table_name = 'cards' ORDER BY row_key;
-- The rows that failed are asked about again, the others are not.
UPDATE g.cards SET body = 'name: mended' WHERE id IN (5, 9);
--@ clear
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": "name", "year": "year", "price": "price"}', CONCAT('{"task": "extract", "where": "id NOT IN (6, 7)", "fields": ', @fields, '}'));
--@ requests
SELECT id, name, year, price, raw FROM g.cards WHERE id IN (5, 9) ORDER BY id;
-- With a digest, an answer may be NULL in all columns, changed rows are asked about again, and a refused text loses its old
-- answer.
CREATE TABLE g.hashed (id INT PRIMARY KEY, body TEXT, city VARCHAR(20), n INT NOT NULL DEFAULT 0, city_hash BINARY(32));
INSERT INTO g.hashed (id, body) VALUES (1, 'city: Bern, n: 1'), (2, 'city: Oslo'), (3, '[[answer:{"city": null, "n": 4}]]'), (4, '[[answer:{"city": "x", "n": null}]]');
CALL ai.generate_table('llm', 'g.hashed', 'body', '{"city": "city", "n": "n"}', '{"task": "extract", "fields": {"city": "text", "n": "integer"}}');
SELECT id, city, n, city_hash IS NULL AS no_hash FROM g.hashed ORDER BY id;
SELECT row_key, error FROM mysql.cloudsql_ml_embed_failures WHERE table_name = 'hashed' ORDER BY row_key;
ALTER TABLE g.hashed MODIFY n INT;
--@ clear
CALL ai.generate_table('llm', 'g.hashed', 'body', '{"city": "city", "n": "n"}', '{"task": "extract", "fields": {"city": "text", "n": "integer"}}');
--@ requests
UPDATE g.hashed SET body = 'Nowhere' WHERE id = 1;
UPDATE g.hashed SET body = '[[refuse]]' WHERE id = 3;
CALL ai.generate_table('llm', 'g.hashed', 'body', '{"city": "city", "n": "n"}', '{"task": "extract", "fields": {"city": "text", "n": "integer"}, "rows_per_request": 4}');
SELECT id, city, n, city_hash IS NULL AS no_hash FROM g.hashed ORDER BY id;
UPDATE g.hashed SET body = NULL WHERE id = 2;
CALL ai.generate_table('llm', 'g.hashed', 'body', '{"city": "city", "n": "n"}', '{"task": "extract", "fields": {"city": "text", "n": "integer"}, "on_error": "stop"}');
SELECT id, city, n, city_hash IS NULL AS no_hash FROM g.hashed ORDER BY id;
-- The same of a schema of your own; a member that is missing is NULL.
CREATE TABLE g.own (id INT PRIMARY KEY, body TEXT, a INT, b INT);
INSERT INTO g.own (id, body) VALUES (1, '[[answer:{"a": 1}]]');
CALL ai.generate_table('llm', 'g.own', 'body', '{"b": "b", "a": "a"}', '{"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}');
SELECT * FROM g.own;
-- Errors, before anything is sent.
--@ clear
CALL ai.generate_table('llm', 'g.cards', 'body', '{}', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name"', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": 1}', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"city": "name"}', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": "nothing"}', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": "name", "year": "Name"}', '{"task": "extract", "fields": ["name", "year"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"name": "touched"}', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.cards', 'body', '{"answer": "name"}', '{"task": "if"}');
CALL ai.generate_table('llm', 'g.hashed', 'body', '{"a": "city", "b": "city_hash"}', '{"task": "extract", "fields": ["a", "b"], "hash_column": "city_hash"}');
ALTER TABLE g.own ADD twice INT AS (a * 2), MODIFY a INT NOT NULL;
CALL ai.generate_table('llm', 'g.own', 'body', '{"name": "twice"}', '{"task": "extract", "fields": ["name"]}');
CALL ai.generate_table('llm', 'g.own', 'body', '{"name": "a", "year": "b"}', '{"task": "extract", "fields": ["name", "year"]}');
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
