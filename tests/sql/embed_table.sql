-- ml_embed_table: whole tables, resumable, exact.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_setting('registry_ttl_ms', '0');
CREATE DATABASE e;
USE e;
CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, title VARCHAR(100), body TEXT, v VECTOR(8));
INSERT INTO t (title, body) VALUES ('a', 'one'), ('b', 'two'), ('c', NULL), ('d', 'two'), ('e', 'drei – 😀');
--@ clear
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
--@ requests
SELECT id, v = mysql.ml_embedding('m', body) AS same FROM t ORDER BY id;
-- Run again: nothing is left to do.
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
SELECT table_schema, table_name, embedding_column, model_id, status, embedded, failed, skipped, message FROM mysql.cloudsql_ml_embed_progress;
-- An expression, a condition, and as a loadable function with named arguments.
UPDATE t SET v = NULL;
SELECT JSON_REMOVE(ml_embed_table('m' AS model_id, 'v' AS embedding_column, '`e`.`t`' AS `table`, 'CONCAT_WS('' '', title, body)' AS content_column, '{"where": "id > 2 -- a comment", "max_rows": 2, "batch_size": 1, "concurrency": 2}' AS options), '$.seconds') AS done;
SELECT id, v IS NOT NULL AS filled, v = mysql.ml_embedding('m', CONCAT_WS(' ', title, body)) AS same FROM t ORDER BY id;
-- A hash column: changed texts are embedded again, unchanged ones are not.
ALTER TABLE t ADD v_hash BINARY(32);
UPDATE t SET v = NULL;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
UPDATE t SET body = 'changed' WHERE id = 1;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
SELECT id, v = mysql.ml_embedding('m', body) AS same, v_hash = UNHEX(SHA2(body, 256)) AS hash FROM t ORDER BY id;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
-- One bad row does not fail its neighbours, and is recorded; mended, it is done and forgotten.
UPDATE t SET body = '' WHERE id = 2;
UPDATE t SET v = NULL;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
SELECT table_name, row_key, tries, error LIKE '%no visible character%' AS error FROM mysql.cloudsql_ml_embed_failures;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
SELECT row_key, tries FROM mysql.cloudsql_ml_embed_failures;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', '{"on_error": "stop"}');
UPDATE t SET body = 'good' WHERE id = 2;
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
SELECT COUNT(*) AS failures FROM mysql.cloudsql_ml_embed_failures;
-- Keys of any type, and of several columns.
CREATE TABLE k1 (a VARCHAR(20) CHARACTER SET latin1, b DATETIME(3), c TEXT, v VECTOR(8), PRIMARY KEY (a, b));
INSERT INTO k1 (a, b, c) VALUES ('ä', '2026-01-01 00:00:00.123', 'x1'), ('ä', '2026-01-02', 'x2'), ('', '2026-01-01', 'x3'), ('o''x\\', '1999-12-31', 'x4');
CALL mysql.ml_embed_table('m', 'e.k1', 'c', 'v', '{"batch_size": 1}');
SELECT SUM(v = mysql.ml_embedding('m', c)) AS same FROM k1;
CREATE TABLE k2 (a BINARY(3), b DECIMAL(10, 3), d DOUBLE, f FLOAT, e ENUM('z', 'a'), y YEAR, n BIGINT UNSIGNED, c TEXT, v VARBINARY(32), PRIMARY KEY (a, b, d, f, e, y, n));
INSERT INTO k2 (a, b, d, f, e, y, n, c) VALUES (x'0027ff', -1.5, 0.1, 0.1, 'z', 2026, 18446744073709551615, 'y1'), (x'0027ff', -1.5, 0.1, 0.1, 'a', 2026, 1, 'y2'), (x'5c0000', 2, 1e300, -2.5, 'a', 1999, 0, 'y3');
CALL mysql.ml_embed_table('m', 'e.k2', 'c', 'v', '{"batch_size": 1}');
SELECT SUM(HEX(v) = HEX(mysql.ml_embedding('m', c))) AS same FROM k2;
CREATE TABLE k3 (a VARCHAR(20) NOT NULL, c TEXT, v BLOB, UNIQUE KEY (a));
INSERT INTO k3 (a, c) VALUES ('Key', 'z1'), ('zwei', 'z2');
CALL mysql.ml_embed_table('m', 'e.k3', 'c', 'v', NULL);
SELECT SUM(HEX(v) = HEX(mysql.ml_embedding('m', c))) AS same FROM k3;
-- What cannot work is told before anything is sent.
--@ clear
CREATE TABLE n1 (a INT, c TEXT, v VECTOR(8));
CREATE TABLE n2 (a INT PRIMARY KEY, c TEXT, v VECTOR(8) NOT NULL);
CREATE TABLE n3 (a INT PRIMARY KEY, c TEXT, v VECTOR(4), j JSON);
INSERT INTO n3 (a, c) VALUES (1, 'x');
CALL mysql.ml_embed_table('m', 't', 'body', 'v', NULL);
CALL mysql.ml_embed_table('m', 'e.absent', 'body', 'v', NULL);
CALL mysql.ml_embed_table('m', 'e.t', 'bodi', 'v', NULL);
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'w', NULL);
CALL mysql.ml_embed_table('m', 'e.n1', 'c', 'v', NULL);
CALL mysql.ml_embed_table('m', 'e.n2', 'c', 'v', NULL);
CALL mysql.ml_embed_table('m', 'e.n3', 'c', 'j', NULL);
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', '{"batch": 1}');
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', '{"where": "nonsense ("}');
CALL mysql.ml_embed_table('nobody', 'e.t', 'body', 'v', NULL);
CALL mysql.ml_embed_table(NULL, 'e.t', 'body', 'v', NULL);
--@ requests
CALL mysql.ml_embed_table('m', 'e.n3', 'c', 'v', '{"on_error": "stop"}');
CALL mysql.ml_set_model_options('m', '{"dimensions": 8}');
CALL mysql.ml_embed_table('m', 'e.n3', 'c', 'v', NULL);
-- With the caller's rights on the table.
CREATE USER app@localhost;
GRANT ml_user TO app@localhost;
SET DEFAULT ROLE ml_user TO app@localhost;
GRANT SELECT ON e.* TO app@localhost;
UPDATE t SET v = NULL;
--@ user app
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
DO ml_embed_table('m', 'e.t', 'body', 'v');
--@ user root
GRANT UPDATE (v, v_hash) ON e.t TO app@localhost;
--@ user app
CALL mysql.ml_embed_table('m', 'e.t', 'body', 'v', NULL);
--@ user root
REVOKE ml_user FROM app@localhost;
--@ user app
DO ml_embed_table('m', 'e.t', 'body', 'v');
--@ user root
DROP USER app@localhost;
DROP DATABASE e;
CALL mysql.ml_set_setting('registry_ttl_ms', NULL);
DELETE FROM mysql.cloudsql_ml_models;
DELETE FROM mysql.cloudsql_ml_embed_progress;
DELETE FROM mysql.cloudsql_ml_embed_failures;
