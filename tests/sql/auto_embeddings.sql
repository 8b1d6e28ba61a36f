-- Automatic embeddings, by AlloyDB's names: initialize, refresh, progress, drop; triggers mark changed rows.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_setting('registry_ttl_ms', '0');
SET GLOBAL event_scheduler = OFF;
CREATE DATABASE e;
USE e;
CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, title VARCHAR(100), body TEXT, doc JSON, n INT, v VECTOR(8), w VECTOR(8));
INSERT INTO t (title, body) VALUES ('a', 'one'), ('b', 'two'), ('c', NULL), ('d', 'four');
SELECT * FROM ai.embedding_progress_view;
-- Manual: what lacks a vector is embedded when somebody asks.
SELECT JSON_REMOVE(ml_initialize_embeddings('m', 'e.t', 'body', 'v', 2, 'manual'), '$.seconds') AS done;
SELECT id, v = mysql.ml_embedding('m', body) AS same FROM t ORDER BY id;
SELECT table_name, content_column, embedding_column, model_id, percent_progress, status, elapsed_time IS NOT NULL AS elapsed, rows_processed, partition_root, incremental_refresh_mode, last_error FROM ai.embedding_progress_view;
INSERT INTO t (title, body) VALUES ('e', 'five');
UPDATE t SET body = 'changed' WHERE id = 1;
--@ clear
SELECT JSON_REMOVE(ml_refresh_embeddings('e.t', 'v', NULL), '$.seconds') AS done;
--@ last BODY
--@ requests
SELECT id, v = mysql.ml_embedding('m', body) AS same FROM t ORDER BY id;
SHOW TRIGGERS FROM e;
SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e';
CALL ai.drop_embedding_config('e.t', 'v');
SELECT COUNT(*) AS configured FROM ai.embedding_progress_view;
SELECT COUNT(v) AS vectors_stay FROM t;
-- Transactional, of an expression: a change of what it is made of takes the vector away, and nothing else does.
UPDATE t SET v = NULL;
SELECT JSON_REMOVE(ml_initialize_embeddings('m' AS model_id, '`e`.`t`' AS table_name, 'CONCAT_WS('' '', title, body, doc)' AS content_column, 'v' AS embedding_column, 'Transactional' AS incremental_refresh_mode), '$.seconds') AS done;
SELECT COUNT(v) AS embedded FROM t;
UPDATE t SET n = 1;
SELECT COUNT(v) AS embedded FROM t;
UPDATE t SET title = 'A' WHERE id = 1;
UPDATE t SET body = 'two ' WHERE id = 2;
UPDATE t SET doc = '{}' WHERE id = 3;
SELECT id, v IS NULL AS marked FROM t ORDER BY id;
-- A vector that comes with the change is kept.
UPDATE t SET body = 'own', v = STRING_TO_VECTOR('[1,2,3,4,5,6,7,8]') WHERE id = 4;
INSERT INTO t (id, title) VALUES (5, 'x') ON DUPLICATE KEY UPDATE title = 'x';
SELECT id, v IS NULL AS marked FROM t ORDER BY id;
SELECT JSON_REMOVE(ml_refresh_embeddings('e.t'), '$.seconds') AS done;
SELECT id, v = mysql.ml_embedding('m', CONCAT_WS(' ', title, body, doc)) AS same FROM t ORDER BY id;
SELECT EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e';
SELECT STATUS, INTERVAL_VALUE, INTERVAL_FIELD, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e';
-- Two columns of a table, and a generated column.
ALTER TABLE t ADD both_texts TEXT AS (CONCAT(title, ': ', IFNULL(body, '')));
SELECT JSON_REMOVE(ml_initialize_embeddings('m', 'e.t', 'both_texts', 'w', NULL, 'transactional'), '$.seconds') AS done;
UPDATE t SET body = 'again' WHERE id = 1;
SELECT v IS NULL AS v, w IS NULL AS w FROM t WHERE id = 1;
UPDATE t SET doc = '[1]' WHERE id = 1;
SELECT JSON_REMOVE(ml_refresh_embeddings(NULL, NULL), '$.seconds') AS done;
SELECT v = mysql.ml_embedding('m', CONCAT_WS(' ', title, body, doc)) AS v, w = mysql.ml_embedding('m', both_texts) AS w FROM t WHERE id = 1;
SELECT table_name, embedding_column, percent_progress, status FROM ai.embedding_progress_view;
-- What is missing is put back, here for a table that takes another's place.
ALTER TABLE t RENAME TO moved;
CREATE TABLE t LIKE moved;
INSERT INTO t (title, body) VALUES ('new', 'table');
SELECT JSON_REMOVE(ml_refresh_embeddings('e.t', 'v'), '$.seconds') AS done;
SELECT EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e' ORDER BY 1;
SELECT JSON_REMOVE(ml_refresh_embeddings('e.t', 'w'), '$.seconds') AS done;
SELECT EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e' ORDER BY 1;
DROP TABLE moved;
-- A column that is dropped: the table can be written to as ever, and nothing is left.
ALTER TABLE t DROP COLUMN w;
UPDATE t SET body = 'still writable';
SELECT v IS NULL AS marked FROM t;
SELECT ml_refresh_embeddings('e.t', 'w');
SELECT COUNT(*) AS triggers FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e';
SELECT COUNT(*) AS events FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e';
ALTER TABLE t DROP COLUMN both_texts;
ALTER TABLE t RENAME COLUMN body TO text;
UPDATE t SET text = 'renamed';
SELECT ml_refresh_embeddings('e.t', 'v');
SELECT COUNT(*) AS triggers FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e';
SELECT COUNT(*) AS configured FROM mysql.cloudsql_ml_embed_configs;
SELECT COUNT(*) AS progress FROM mysql.cloudsql_ml_embed_progress WHERE table_name = 't' AND table_schema = 'e';
-- A table that is dropped.
DO ml_initialize_embeddings('m', 'e.t', 'text', 'v', NULL, 'transactional');
DROP TABLE t;
SELECT COUNT(*) AS shown FROM ai.embedding_progress_view;
CALL ai.refresh_embeddings('e.t', NULL, NULL);
SELECT COUNT(*) AS events FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e';
SELECT COUNT(*) AS configured FROM mysql.cloudsql_ml_embed_configs;
-- Errors.
CREATE TABLE t (id INT PRIMARY KEY, body TEXT, v VECTOR(8), narrow VECTOR(4), full VECTOR(8) NOT NULL, full_hash BINARY(32));
CALL ai.initialize_embeddings('m', 't', 'body', 'v', NULL, NULL);
CALL ai.initialize_embeddings('m', 'e.nothing', 'body', 'v', NULL, NULL);
CALL ai.initialize_embeddings('m', 'e.t', 'bodi', 'v', NULL, NULL);
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'w', NULL, NULL);
CALL ai.initialize_embeddings('nobody', 'e.t', 'body', 'v', NULL, NULL);
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', 0, NULL);
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'immediate');
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'full', NULL, 'transactional');
CALL ai.initialize_embeddings('m', 'e.t', '''text''', 'v', NULL, 'transactional');
CALL ai.initialize_embeddings('m', NULL, 'body', 'v', NULL, NULL);
CALL mysql.ml_set_model_options('m', '{"dimensions": 8}');
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'narrow', NULL, NULL);
CALL ai.refresh_embeddings('e.t', 'v', NULL);
CALL ai.refresh_embeddings(NULL, 'v', NULL);
CALL ai.drop_embedding_config('e.t', NULL);
SELECT ml_refresh_embeddings('e.t', 'v', NULL, 'cron');
DO ml_initialize_embeddings('m', 'e.t', 'body', 'v');
DO ml_initialize_embeddings('m', 'e.t', 'body', 'v');
SELECT COUNT(*) AS configured FROM mysql.cloudsql_ml_embed_configs;
-- Whoever may call models and write the column may do it; others see nothing of it.
CREATE USER app@localhost, other@localhost;
GRANT `ml_user` TO app@localhost, other@localhost;
SET DEFAULT ROLE `ml_user` TO app@localhost, other@localhost;
GRANT SELECT ON e.* TO app@localhost;
--@ user app
CALL ai.drop_embedding_config('e.t', 'v');
SELECT table_name, status FROM ai.embedding_progress_view;
--@ user other
SELECT table_name, status FROM ai.embedding_progress_view;
CALL ai.refresh_embeddings('e.t', 'v', NULL);
CALL ai.drop_embedding_config('e.t', 'v');
CALL ai.drop_embedding_config(NULL, NULL);
--@ user root
GRANT UPDATE ON e.* TO app@localhost;
--@ user app
CALL ai.drop_embedding_config('e.t', 'v');
--@ user root
CALL ai.drop_embedding_config('e.t', 'v');
--@ user app
SELECT JSON_REMOVE(ml_initialize_embeddings('m', 'e.t', 'body', 'v'), '$.seconds') AS done;
CALL ai.drop_embedding_config(NULL, NULL);
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional');
SELECT table_name, status FROM ai.embedding_progress_view;
--@ user root
GRANT TRIGGER ON e.* TO app@localhost;
--@ user app
CALL ai.initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional');
--@ user root
SELECT COUNT(*) AS triggers FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e';
GRANT EVENT ON e.* TO app@localhost;
--@ user app
SELECT JSON_REMOVE(ml_initialize_embeddings('m', 'e.t', 'body', 'v', NULL, 'transactional'), '$.seconds') AS done;
CALL ai.drop_embedding_config('e.t', NULL);
--@ user root
SELECT COUNT(*) AS triggers FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'e';
SELECT COUNT(*) AS events FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'e';
DROP USER app@localhost, other@localhost;
DROP DATABASE e;
SET GLOBAL event_scheduler = ON;
CALL mysql.ml_set_setting('registry_ttl_ms', NULL);
CALL mysql.ml_drop_model_registration('m');
SELECT COUNT(*) AS configured FROM mysql.cloudsql_ml_embed_configs;
