-- Calls from everywhere a statement can come from, over both protocols.
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('d', '{"dimensions": 4}');
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-4', NULL, NULL, NULL, NULL, NULL);
CREATE DATABASE x;
USE x;
CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(4));

-- Trigger.
CREATE TRIGGER fill BEFORE INSERT ON t FOR EACH ROW SET NEW.v = mysql.ml_embedding('m', NEW.body);
INSERT INTO t (body) VALUES ('by trigger'), (NULL);
SELECT id, VECTOR_DIM(v) AS dim FROM t;
DROP TRIGGER fill;

-- Stored function, procedure, view.
CREATE FUNCTION near(a TEXT, b TEXT) RETURNS DOUBLE DETERMINISTIC RETURN cosine_distance(mysql.ml_embedding('d', a), ml_embedding('d', b));
SELECT near('same words', 'same words') < 1e-6 AS same;
CREATE VIEW vectors AS SELECT id, mysql.ml_embedding('m', body) AS v FROM t;
SELECT id, VECTOR_DIM(v) AS dim FROM vectors;
DELIMITER //
CREATE PROCEDURE fill(IN text TEXT)
BEGIN
  DECLARE q VECTOR(4);
  SET q = mysql.ml_embedding('m', text);
  INSERT INTO t (body, v) VALUES (text, q);
END //
DELIMITER ;
CALL fill('by procedure');
SELECT VECTOR_DIM(v) AS dim FROM t WHERE body = 'by procedure';

-- Prepared statements.
PREPARE s FROM 'SELECT VECTOR_DIM(mysql.ml_embedding(?, ?)) AS dim, VECTOR_DIM(ml_embedding(?, ?)) AS bare';
SET @model = 'm', @text = 'prepared';
EXECUTE s USING @model, @text, @model, @text;
EXECUTE s USING @model, @text, @model, @text;
DEALLOCATE PREPARE s;
--@ protocol prepared
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'binary protocol')) AS dim;
SELECT mysql.ml_embedding('nope', 'x');
SELECT mysql.ml_embedding('d', 'bytes') AS bytes;
--@ protocol text

-- Transactions and table locks, also of the registry itself.
START TRANSACTION;
INSERT INTO t (body, v) VALUES ('in a transaction', mysql.ml_embedding('m', 'in a transaction'));
ROLLBACK;
SELECT COUNT(*) AS rolled_back FROM t WHERE body = 'in a transaction';
LOCK TABLES t WRITE;
UPDATE t SET v = ml_embedding('m', body) WHERE body IS NOT NULL;
UPDATE t SET v = mysql.ml_embedding('d', body) WHERE body IS NOT NULL;
CALL mysql.ml_set_model_options('d', '{"max_retries": 1}');
UNLOCK TABLES;
CALL mysql.ml_set_setting('registry_ttl_ms', '0');
LOCK TABLES mysql.cloudsql_ml_models WRITE;
SELECT VECTOR_DIM(ml_embedding('d', 'x')) AS dim;
UNLOCK TABLES;
SELECT VECTOR_DIM(ml_embedding('d', 'x')) AS dim;
SET autocommit = 0;
SELECT VECTOR_DIM(ml_embedding('d', 'x')) AS dim;
CALL mysql.ml_set_model_options('d', '{"max_retries": null}');
SET autocommit = 1;
SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES';
SELECT VECTOR_DIM(mysql.ml_embedding('d', 'x')) AS dim;
SET SESSION sql_mode = DEFAULT;
SET SESSION TRANSACTION READ ONLY;
SELECT VECTOR_DIM(mysql.ml_embedding('d', 'read only')) AS dim;
SET SESSION TRANSACTION READ WRITE;

-- X Protocol: the session's thread holds a server session already.
--@ protocol x
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'x protocol')) AS dim, VECTOR_DIM(ml_embedding('m', 'x protocol')) AS bare;
SELECT mysql.ml_embedding('nope', 'x');
SELECT JSON_VALUE(ml_list_registered_model('d'), '$.model_provider') AS provider;
CALL mysql.ml_create_model_registration('by-x', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_drop_model_registration('by-x');
INSERT INTO x.t (body, v) VALUES ('x', mysql.ml_embedding('m', 'x protocol'));
--@ protocol text
SELECT VECTOR_DIM(v) AS dim FROM t WHERE body = 'x';
CALL mysql.ml_set_setting('registry_ttl_ms', NULL);
DROP DATABASE x;
CALL mysql.ml_drop_model_registration('d');
CALL mysql.ml_drop_model_registration('m');
