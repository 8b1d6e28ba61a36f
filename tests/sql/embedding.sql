-- ml_embedding: results that go where vectors go, NULL rules, character sets.
CALL mysql.ml_create_model_registration('emb', '{{endpoint}}', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CREATE DATABASE e;
USE e;
CREATE TABLE t (id INT PRIMARY KEY, body TEXT, v VECTOR(8));
INSERT INTO t (id, body) VALUES (1, 'one'), (2, NULL), (3, 'drei – 😀');
UPDATE t SET v = mysql.ml_embedding('emb', body);
SELECT id, VECTOR_DIM(v) AS dim, LENGTH(v) AS bytes, ROUND(dot_product(v, v), 5) AS norm FROM t;
SELECT VECTOR_TO_STRING(v) FROM t WHERE id = 1;
SELECT VECTOR_TO_STRING(v) = VECTOR_TO_STRING(ml_embedding('emb', body)) AS bare_and_wrapper_agree FROM t WHERE id IN (1, 3);
INSERT INTO t VALUES (4, 'four', ml_embedding('emb', 'four')), (5, 'five', mysql.ML_EMBEDDING('emb', 'five'));
SELECT COUNT(v) FROM t;
--@ last PATH
--@ last BODY

-- NULL gives NULL without a request.
SELECT COUNT(*) AS ok FROM t;
--@ requests
SELECT mysql.ml_embedding('emb', NULL), mysql.ml_embedding(NULL, 'x'), ml_embedding('emb', NULL), ml_embedding(NULL, 'x');
--@ requests

-- Character sets: latin1, utf8mb3, utf16 columns, numbers, binary.
CREATE TABLE cs (l1 VARCHAR(20) CHARACTER SET latin1, u3 VARCHAR(20) CHARACTER SET utf8mb3, u16 VARCHAR(20) CHARACTER SET utf16, n INT, d DECIMAL(5,2), b VARBINARY(20));
INSERT INTO cs VALUES ('Grüße', 'Grüße', 'Grüße', 42, 1.50, 'Grüße');
SELECT HEX(ml_embedding('emb', l1)) = HEX(ml_embedding('emb', 'Grüße')) AS latin1, HEX(mysql.ml_embedding('emb', u3)) = HEX(ml_embedding('emb', 'Grüße')) AS utf8mb3, HEX(ml_embedding('emb', u16)) = HEX(mysql.ml_embedding('emb', 'Grüße')) AS utf16, HEX(ml_embedding('emb', b)) = HEX(ml_embedding('emb', 'Grüße')) AS binary_utf8 FROM cs;
SELECT HEX(ml_embedding('emb', n)) = HEX(ml_embedding('emb', '42')) AS an_int, HEX(mysql.ml_embedding('emb', n)) = HEX(ml_embedding('emb', '42')) AS an_int_wrapped, HEX(ml_embedding('emb', d)) = HEX(ml_embedding('emb', '1.50')) AS a_decimal, HEX(ml_embedding('emb', 1.5e0)) = HEX(ml_embedding('emb', '1.5')) AS a_double, HEX(ml_embedding('emb', DATE '2026-01-02')) = HEX(ml_embedding('emb', '2026-01-02')) AS a_date, HEX(ml_embedding('emb', JSON_ARRAY(1))) = HEX(ml_embedding('emb', '[1]')) AS some_json FROM cs;
SELECT ml_embedding('emb', x'ff00fe');
SELECT mysql.ml_embedding('emb', x'ff00fe');
SELECT mysql.ml_embedding('emb', '');

-- CREATE TABLE AS keeps everything.
CREATE TABLE c AS SELECT id, mysql.ml_embedding('emb', body) AS wrapped, ml_embedding('emb', body) AS bare FROM t;
SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'e' AND TABLE_NAME = 'c' ORDER BY ORDINAL_POSITION;
SELECT SUM(HEX(wrapped) = HEX(bare)) AS equal, SUM(LENGTH(bare)) AS bytes FROM c;

-- The width is checked.
CALL mysql.ml_set_model_options('emb', '{"dimensions": 4}');
SELECT VECTOR_DIM(mysql.ml_embedding('emb', 'shortened by the provider')) AS dimensions;
--@ last BODY
INSERT INTO t VALUES (9, 'x', mysql.ml_embedding('emb', 'another'));
SELECT VECTOR_DIM(v) FROM t WHERE id = 9;
CALL mysql.ml_create_model_registration('wide', '{{endpoint}}/wrong-width/9', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
INSERT INTO t VALUES (10, 'x', mysql.ml_embedding('wide', 'x'));
CALL mysql.ml_set_model_options('wide', '{"dimensions": 8}');
SELECT mysql.ml_embedding('wide', 'x');

-- Wrong use.
SELECT mysql.ml_embedding('emb ', 'the id is not padded');
SELECT mysql.ml_embedding('EMB', 'nor is its case');
SELECT ml_embedding(CONCAT('emb', SPACE(60000)), 'x');
CALL mysql.ml_create_model_registration('gen', '{{endpoint}}/echo', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('gen', 'x');
SELECT ml_embedding('emb');
SELECT ml_embedding('emb', 'x', 'y');
SELECT VECTOR_DIM(ml_embedding('named' AS content, 'emb' AS model_id)) AS dimensions;
DROP DATABASE e;
CALL mysql.ml_drop_model_registration('emb');
CALL mysql.ml_drop_model_registration('wide');
CALL mysql.ml_drop_model_registration('gen');
