-- ml_embedding_agg: the rows of a group in, a JSON object of vectors out.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('b', '{{endpoint}}/openai/v1', 'open_ai', 'text_embedding', 'test-4', 'secret_manager', 'key', NULL, NULL, NULL);
CREATE DATABASE e;
USE e;
CREATE TABLE e.t (id INT PRIMARY KEY, kind VARCHAR(10), body TEXT, v VECTOR(4));
INSERT INTO e.t (id, kind, body) VALUES (1, 'a', 'red'), (2, 'a', 'green'), (3, 'b', 'blue'), (4, 'b', NULL), (5, 'b', 'red');
--@ requests
SELECT JSON_KEYS(ml_embedding_agg('b', id, body)) AS ids FROM e.t;
--@ last BODY
--@ requests
-- What comes out are the texts' vectors, by their keys.
SELECT t.id, HEX(FROM_BASE64(JSON_UNQUOTE(JSON_EXTRACT(o.j, CONCAT('$."', t.id, '"'))))) = HEX(mysql.ml_embedding('b', t.body)) AS same FROM e.t, (SELECT ml_embedding_agg('b', id, body) AS j FROM e.t) AS o ORDER BY t.id;
--@ requests
-- A group at a time.
SELECT kind, JSON_KEYS(ml_embedding_agg('b', id, body)) AS ids, JSON_TYPE(JSON_EXTRACT(ml_embedding_agg('b', id, body), '$."4"')) AS of_null FROM e.t GROUP BY kind ORDER BY kind;
SELECT ml_embedding_agg('b', id, body) AS nothing FROM e.t WHERE id > 100;
SELECT ml_embedding_agg(NULL, id, body) AS nothing FROM e.t;
SELECT kind, JSON_LENGTH(ml_embedding_agg('b', id, body)) AS n FROM e.t GROUP BY kind WITH ROLLUP;
SELECT kind FROM e.t GROUP BY kind HAVING JSON_LENGTH(ml_embedding_agg('b', id, body)) > 2 ORDER BY LENGTH(ml_embedding_agg('b', id, body));
SELECT DISTINCT kind, (SELECT JSON_KEYS(ml_embedding_agg('b', id, body)) FROM e.t i WHERE i.kind = o.kind AND i.id <> 1) AS ids FROM e.t o ORDER BY kind;
SELECT n.k, (SELECT JSON_KEYS(ml_embedding_agg('b', id, body)) FROM e.t i WHERE i.kind = n.k) AS ids FROM (SELECT 'x' AS k UNION SELECT 'y' UNION SELECT 'a' UNION SELECT 'z') AS n;
SELECT kind, JSON_LENGTH(ml_embedding_agg('b', id, body)) AS n FROM (SELECT * FROM e.t UNION ALL SELECT * FROM e.t) AS twice GROUP BY kind;
-- Of rows with the same key one is kept.
SELECT JSON_KEYS(ml_embedding_agg('b', kind, body)) AS kinds FROM e.t;
-- Into the table.
UPDATE e.t JOIN (SELECT k.id, v.e FROM (SELECT ml_embedding_agg('b', id, body) AS j FROM e.t) AS o, JSON_TABLE(JSON_KEYS(o.j), '$[*]' COLUMNS (i FOR ORDINALITY, id INT PATH '$')) AS k, JSON_TABLE(o.j, '$.*' COLUMNS (i FOR ORDINALITY, e VARCHAR(100) PATH '$')) AS v WHERE v.i = k.i) AS x USING (id) SET t.v = FROM_BASE64(x.e);
SELECT id, v = mysql.ml_embedding('b', body) AS same FROM e.t;
-- Errors: each statement fails once, and the next one works.
SELECT ml_embedding_agg('b', NULL, body) FROM e.t;
SELECT ml_embedding_agg(kind, id, body) FROM e.t;
SELECT ml_embedding_agg('nobody', id, body) FROM e.t;
SELECT ml_embedding_agg('b', id) FROM e.t;
INSERT INTO e.t (id, kind, body) VALUES (6, 'c', '');
SELECT ml_embedding_agg('b', id, body) FROM e.t;
CALL mysql.ml_set_model_options('b', '{"on_error": "inline"}');
SELECT JSON_VALUE(ml_embedding_agg('b', id, body), '$."6".error') AS error FROM e.t;
SELECT JSON_LENGTH(ml_embedding_agg('b', id, body)) AS n FROM e.t WHERE id < 3;
-- The right is that on ml_embedding_batch.
CREATE USER app@localhost;
GRANT SELECT ON e.* TO app@localhost;
--@ user app
SELECT ml_embedding_agg('b', id, body) FROM e.t;
--@ user root
GRANT EXECUTE ON FUNCTION mysql.ml_embedding_batch TO app@localhost;
GRANT SELECT ON mysql.cloudsql_ml_models TO app@localhost;
--@ user app
SELECT JSON_LENGTH(ml_embedding_agg('b', id, body)) AS n FROM e.t WHERE id < 3;
--@ user root
DROP USER app@localhost;
DROP DATABASE e;
CALL mysql.ml_drop_model_registration('b');
CALL mysql.ml_drop_sm_secret_registration('key');
