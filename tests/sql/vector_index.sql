-- Vector indexes: created, searched, kept in step with the table, compared with it, dropped.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
SET GLOBAL event_scheduler = OFF;
CREATE DATABASE x;
USE x;
CREATE TABLE docs (id INT PRIMARY KEY AUTO_INCREMENT, kind VARCHAR(10), v VECTOR(4));
INSERT INTO docs (kind, v) WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 899) SELECT IF(i % 9 = 0, 'rare', 'usual'), STRING_TO_VECTOR(CONCAT('[', COS(i * 0.7), ',', SIN(i * 0.7), ',', COS(i * 0.31) * 0.5, ',', i * 0.001, ']')) FROM n;
SET @q = STRING_TO_VECTOR('[1, 0, 0.5, 0.1]');
-- Without an index the table is read, and the status says so.
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id"], "distance_measure": "l2_squared"}');
SELECT ml_vector_search_status();
CALL ai.create_vector_index('x.docs', 'v', '{"distance_measure": "l2_squared"}');
SELECT table_name, column_name, distance_measure, status, `rows`, codes, changes, lists, bits, left_out, recall, definer, note FROM ai.vector_indexes;
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id"]}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.path') AS path, JSON_VALUE(ml_vector_search_status(), '$.reason') AS reason;
CALL ai.search('x.docs', 'v', '[1, 0, 0.5, 0.1]', 3, '{"columns": ["id", "kind"], "exact": true}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.path') AS path, JSON_VALUE(ml_vector_search_status(), '$.reason') AS reason;
-- A filter: as many rows as there are, the nearest first.
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id", "kind"], "where": "kind = ''rare''"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["id", "kind"], "where": "kind = ''rare''", "exact": true}');
CALL ai.search('x.docs', 'v', @q, 5, '{"columns": ["id"], "where": "id IN (3, 700)"}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.path') AS path, JSON_VALUE(ml_vector_search_status(), '$.reason') AS reason;
-- New, changed and deleted rows count at once, also those of an open transaction.
INSERT INTO docs VALUES (2000, 'new', @q);
UPDATE docs SET v = STRING_TO_VECTOR('[1, 0, 0.5, 0.101]') WHERE id = 500;
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"]}');
START TRANSACTION;
DELETE FROM docs WHERE id = 2000;
INSERT INTO docs VALUES (2001, 'new', STRING_TO_VECTOR('[1, 0, 0.5, 0.1001]'));
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"]}');
ROLLBACK;
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"]}');
SELECT changes FROM ai.vector_indexes;
CALL ai.refresh_vector_index('x.docs', 'v', NULL);
SELECT changes, codes FROM ai.vector_indexes;
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"]}');
CALL ai.check_vector_index('x.docs', 'v', '{"queries": 5}');
SELECT v.recall BETWEEN 0.8 AND 1 AS near FROM ai.vector_indexes AS v;
UPDATE docs SET v = NULL WHERE id = 2000;
CALL ai.search('x.docs', 'v', @q, 1, '{"columns": ["id"]}');
-- The composable form.
SELECT t.id FROM JSON_TABLE(ai.vector_candidates('x.docs', 'v', @q, 3, NULL), '$[*]' COLUMNS (id INT PATH '$.id')) AS c JOIN docs AS t USING (id) ORDER BY l2_squared_distance(t.v, @q) LIMIT 3;
-- A query that is a text is embedded by the model of the option, or of the column.
CREATE TABLE texts (a CHAR(3), b DATETIME, body TEXT, e VECTOR(8), PRIMARY KEY (a, b));
INSERT INTO texts (a, b, body) VALUES ('x''1', '2026-01-02 03:04:05', 'red'), ('é', '2026-01-02 03:04:06', 'green'), ('z', '2026-01-02', 'blue');
CALL ai.search('x.texts', 'e', 'red', 1, NULL);
CALL ai.initialize_embeddings('m', 'x.texts', 'body', 'e', NULL, 'manual');
CALL ai.create_vector_index('x.texts', 'e', NULL);
CALL ai.search('x.texts', 'e', 'red', 1, '{"columns": ["a", "b", "body"]}');
CALL ai.search('x.texts', 'e', 'green', 2, '{"columns": ["body"], "model_id": "m"}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.path') AS path, JSON_VALUE(ml_vector_search_status(), '$.reason') AS reason;
UPDATE texts SET a = 'q' WHERE body = 'green';
CALL ai.search('x.texts', 'e', 'green', 1, '{"columns": ["a", "body"]}');
CALL ai.refresh_vector_index('x.texts', 'e', NULL);
CALL ai.search('x.texts', 'e', 'green', 1, '{"columns": ["a", "body"]}');
SELECT JSON_PRETTY(ai.vector_candidates('x.texts', 'e', (SELECT e FROM texts WHERE body = 'red'), 1, '{"candidates": 1}')) AS candidates;
-- What is refused.
CALL ai.create_vector_index('x.docs', 'v', '{"distance_measure": "l2_squared"}');
CALL ai.create_vector_index('x.docs', 'kind', NULL);
CALL ai.create_vector_index('x.docs', 'w', NULL);
CALL ai.create_vector_index('x.nothing', 'v', NULL);
CALL ai.create_vector_index('x.docs', 'v', '{"bits": 9}');
CALL ai.create_vector_index('x.docs', 'v', '{"size": 9}');
CALL ai.search('x.docs', 'v', NULL, 3, NULL);
CALL ai.search('x.docs', 'v', x'0000', 3, NULL);
CALL ai.search('x.docs', 'v', '[1, "a"]', 3, NULL);
CALL ai.search('x.docs', 'v', @q, 0, NULL);
CALL ai.search('x.docs', 'v', @q, 3, '{"columns": ["nothing"]}');
CALL ai.search('x.docs', 'v', @q, 3, '{"where": "nothing = 1"}');
CALL ai.search('x.docs', 'v', @q, 3, '{"limit": 1}');
SELECT mysql_ml.vector_candidates(1, @q, 1, 1, 1, 1);
CREATE TABLE times (t TIMESTAMP PRIMARY KEY, v VECTOR(4));
CALL ai.create_vector_index('x.times', 'v', NULL);
-- A second index of the column; then the measure must be named.
CALL ai.create_vector_index('x.docs', 'v', '{"distance_measure": "cosine", "bits": 4, "lists": 3}');
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"]}');
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"], "distance_measure": "cosine"}');
CALL ai.drop_vector_index('x.docs', 'v', '{"distance_measure": "cosine"}');
-- A rebuild forgets deleted rows.
DELETE FROM docs WHERE id > 800;
CALL ai.check_vector_index('x.docs', 'v', '{"queries": 1}');
CALL ai.rebuild_vector_index('x.docs', 'v', NULL);
CALL ai.check_vector_index('x.docs', 'v', '{"queries": 1}');
TRUNCATE TABLE docs;
CALL ai.search('x.docs', 'v', @q, 1, '{"columns": ["id"]}');
CALL ai.drop_vector_index('x.docs', 'v', NULL);
CALL ai.drop_vector_index('x.docs', 'v', NULL);
CALL ai.drop_vector_index('x.texts', 'e', NULL);
SELECT COUNT(*) AS indexes FROM ai.vector_indexes;
SELECT (SELECT COUNT(*) FROM mysql_ml.vector_blocks) + (SELECT COUNT(*) FROM mysql_ml.vector_lists) + (SELECT COUNT(*) FROM mysql_ml.vector_changes) AS rest;
SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'x' AND TRIGGER_NAME LIKE 'ml\_vectors%';
SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'x';
SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'mysql_ml';
CALL ai.drop_embedding_config(NULL, NULL);
CALL mysql.ml_drop_model_registration('m');
DROP DATABASE x;
SET GLOBAL event_scheduler = DEFAULT;
