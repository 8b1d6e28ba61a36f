-- Chunk tables: created, kept in step with their source, dropped.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
SET GLOBAL event_scheduler = OFF;
CREATE DATABASE x;
USE x;
CREATE TABLE docs (id INT PRIMARY KEY AUTO_INCREMENT, title VARCHAR(40), body TEXT CHARACTER SET latin1 COLLATE latin1_german1_ci);
INSERT INTO docs (title, body) VALUES ('one', 'First things first. Then the café. Then the end.'), ('two', 'Same. Same. Same.'), ('none', NULL), ('blank', '  ');
--@ requests
CALL ai.create_chunks('x.docs', 'body', 'x.chunks', '{"chunk": {"by": "sentences", "size": 1}, "model_id": "m"}');
--@ requests
SHOW CREATE TABLE chunks;
SELECT id, number, start, length, chunk, embedding = mysql.ml_embedding('m', chunk) AS embedded FROM chunks ORDER BY id, number;
-- Each is where the text has it, and its id is that of its text.
SELECT COUNT(*) AS chunks, SUM(c.chunk = BINARY SUBSTRING(d.body, c.start, c.length)) AS placed, SUM(c.chunk_id = LEFT(UNHEX(SHA2(CONCAT((SELECT COUNT(*) FROM chunks o WHERE o.id = c.id AND o.chunk = c.chunk AND o.number <= c.number), ':', CONVERT(c.chunk USING utf8mb4)), 256)), 16)) AS named FROM chunks c JOIN docs d USING (id);
SELECT source_table, text_column, chunk_table, status, changes, failed, options, embedding_column, definer, last_error, note FROM ai.chunk_tables;
-- A change of one sentence: the others keep their ids and vectors.
UPDATE docs SET body = 'Another beginning. First things first. Then the café. Then the end.' WHERE id = 1;
UPDATE docs SET title = 'no text', body = body WHERE id = 2;
DELETE FROM docs WHERE id = 4;
INSERT INTO docs (title, body) VALUES ('five', 'Five.');
SELECT changes FROM ai.chunk_tables;
CALL ai.refresh_chunks('x.chunks', NULL);
--@ requests
SELECT id, number, start, length, chunk, embedding = mysql.ml_embedding('m', chunk) AS embedded FROM chunks ORDER BY id, number;
CALL ai.refresh_chunks('x.chunks', NULL);
-- What is rolled back leaves nothing; a key that changes takes its chunks along.
START TRANSACTION;
UPDATE docs SET body = 'Never.' WHERE id = 1;
ROLLBACK;
UPDATE docs SET id = 50 WHERE id = 5;
REPLACE INTO docs VALUES (2, 'two', 'Same. Other.');
SELECT changes FROM ai.chunk_tables;
CALL ai.refresh_chunks('x.chunks', NULL);
SELECT id, number, chunk FROM chunks WHERE id > 1 ORDER BY id, number;
-- TRUNCATE runs no triggers; the next refresh notices it.
TRUNCATE TABLE docs;
CALL ai.refresh_chunks('x.chunks', NULL);
SELECT COUNT(*) AS chunks FROM chunks;
-- Nor do cascades of foreign keys.
CREATE TABLE owners (id INT PRIMARY KEY);
INSERT INTO owners VALUES (1), (2);
CREATE TABLE owned (id INT PRIMARY KEY, owner INT, body TEXT, FOREIGN KEY (owner) REFERENCES owners (id) ON DELETE CASCADE);
INSERT INTO owned VALUES (1, 1, 'Of one.'), (2, 2, 'Of two.');
CALL ai.create_chunks('x.owned', 'body', 'x.owned_chunks', NULL);
DELETE FROM owners WHERE id = 1;
CALL ai.refresh_chunks('x.owned_chunks', NULL);
SELECT id, number, chunk FROM owned_chunks;
CALL ai.drop_chunks('x.owned_chunks', '{"drop_table": true}');
DROP TABLE owned, owners;
-- The option full compares all rows.
INSERT INTO docs VALUES (7, 'seven', 'Seven. Eight.');
CALL ai.refresh_chunks('x.chunks', NULL);
DELETE FROM chunks WHERE number = 2;
INSERT INTO chunks (id, chunk_id, number, start, length, chunk) VALUES (8, '', 1, 1, 1, 'x');
CALL ai.refresh_chunks('x.chunks', NULL);
CALL ai.refresh_chunks('x.chunks', '{"full": true}');
SELECT id, number, chunk FROM chunks ORDER BY id, number;
-- A dropped chunk table stays as a table, and may become one again.
CALL ai.drop_chunks('x.chunks', NULL);
SELECT COUNT(*) AS chunks FROM chunks;
SELECT COUNT(*) AS left_over FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'x';
SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'x';
SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml';
SELECT (SELECT COUNT(*) FROM mysql_ml.chunk_tables) + (SELECT COUNT(*) FROM mysql_ml.chunk_changes) + (SELECT COUNT(*) FROM mysql_ml.chunk_failures) + (SELECT COUNT(*) FROM mysql.cloudsql_ml_embed_configs) AS rest;
UPDATE docs SET body = 'Seven. Nine.' WHERE id = 7;
CALL ai.create_chunks('x.docs', 'body', 'x.chunks', '{"chunk": {"by": "sentences", "size": 1}, "model_id": "m"}');
SELECT id, number, chunk FROM chunks ORDER BY id, number;
CALL ai.drop_chunks('x.chunks', '{"drop_table": true}');
SHOW TABLES;
-- A key of two columns, of which one is a text; a case that its collation does not tell apart.
CREATE TABLE pages (book CHAR(5) COLLATE utf8mb4_0900_ai_ci, page DATE, body MEDIUMTEXT, PRIMARY KEY (book, page));
INSERT INTO pages VALUES ('a', '2026-01-02', 'One two three.'), ('b''x', '2026-01-02', 'Four.');
CALL ai.create_chunks('x.pages', '`body`', 'x.`page chunks`', '{"chunk": {"by": "words", "size": 2, "overlap": 1}}');
UPDATE pages SET book = 'A' WHERE book = 'a';
CALL ai.refresh_chunks('x.`page chunks`', NULL);
SELECT book, page, number, chunk FROM `page chunks` ORDER BY book, page, number;
-- What is refused.
CALL ai.create_chunks('x.pages', 'body', 'x.`page chunks`', NULL);
CALL ai.create_chunks('x.pages', 'body', 'x.docs', NULL);
CALL ai.create_chunks('x.pages', 'body', 'x.pages', NULL);
CALL ai.create_chunks('x.pages', 'page', 'x.c', NULL);
CALL ai.create_chunks('x.pages', 'nothing', 'x.c', NULL);
CALL ai.create_chunks('x.nothing', 'body', 'x.c', NULL);
CALL ai.create_chunks('x.pages', 'body', 'c', NULL);
CALL ai.create_chunks('x.pages', 'body', 'nowhere.c', NULL);
CALL ai.create_chunks('x.pages', 'body', 'x.c', '{"size": 5}');
CALL ai.create_chunks('x.pages', 'body', 'x.c', '{"chunk": {"sizes": 5}}');
CALL ai.create_chunks('x.pages', 'body', 'x.c', '{"chunk": 5}');
CALL ai.create_chunks('x.pages', 'body', 'x.c', '{"model_id": "unknown"}');
CALL ai.create_chunks('x.pages', 'body', 'x.c', '{"embedding_column": "v"}');
CALL ai.refresh_chunks('x.docs', NULL);
CALL ai.refresh_chunks('x.`page chunks`', '{"all": true}');
CALL ai.drop_chunks('x.docs', NULL);
SELECT ai_refresh_chunks('x.`page chunks`', NULL, 'nobody');
CREATE TABLE numbered (number INT PRIMARY KEY, body TEXT);
CALL ai.create_chunks('x.numbered', 'body', 'x.c', NULL);
CREATE TABLE keyless (body TEXT);
CALL ai.create_chunks('x.keyless', 'body', 'x.c', NULL);
SHOW TABLES;
SELECT COUNT(*) AS tables, (SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml') AS views FROM mysql_ml.chunk_tables;
-- What goes wrong with the tables fails no write, and the view says it.
ALTER TABLE pages RENAME COLUMN body TO content;
INSERT INTO pages VALUES ('c', '2026-01-03', 'Five.');
UPDATE pages SET content = 'Six.' WHERE book = 'c';
DELETE FROM pages WHERE book = 'b''x';
SELECT status, note FROM ai.chunk_tables;
CALL ai.refresh_chunks('x.`page chunks`', NULL);
ALTER TABLE pages RENAME COLUMN content TO body;
CALL ai.refresh_chunks('x.`page chunks`', '{"full": true}');
SELECT book, number, chunk FROM `page chunks` ORDER BY book, number;
ALTER TABLE `page chunks` DROP COLUMN number;
UPDATE pages SET body = 'Seven.' WHERE book = 'c';
SELECT status, note FROM ai.chunk_tables;
CALL ai.refresh_chunks('x.`page chunks`', NULL);
DROP TABLE pages;
SELECT status, note FROM ai.chunk_tables;
CALL ai.drop_chunks('x.`page chunks`', NULL);
CALL mysql.ml_drop_model_registration('m');
DROP DATABASE x;
SET GLOBAL event_scheduler = DEFAULT;
