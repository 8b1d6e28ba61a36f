-- One request a text, however the query is written.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_set_model_options('d', '{"dimensions": 8}');
CREATE DATABASE k;
USE k;
CREATE TABLE docs (id INT PRIMARY KEY, v VECTOR(8));
SET SESSION cte_max_recursion_depth = 20000;
INSERT INTO docs WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i, mysql.ml_embedding('d', CONCAT('document number ', i)) FROM n;
--@ requests
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, mysql.ml_embedding('m', 'query one')) LIMIT 5) AS top;
--@ requests
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, ml_embedding('m', 'query two')) LIMIT 5) AS top;
--@ requests
SET @q = mysql.ml_embedding('m', 'query three');
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, @q) LIMIT 5) AS top;
--@ requests
SELECT COUNT(*) FROM (SELECT id FROM docs, (SELECT mysql.ml_embedding('m', 'query four') AS q) AS x ORDER BY cosine_distance(v, q) LIMIT 5) AS top;
--@ requests
WITH q AS (SELECT ml_embedding('m', 'query five') AS q) SELECT COUNT(*) FROM (SELECT id FROM docs CROSS JOIN q ORDER BY cosine_distance(v, q) LIMIT 5) AS top;
--@ requests
-- The same text again in a later statement, through the other door.
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, ml_embedding('m', 'query one')) LIMIT 5) AS top;
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'query two')) AS dimensions;
--@ requests
--@ protocol prepared
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, mysql.ml_embedding('m', 'query six')) LIMIT 5) AS top;
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, mysql.ml_embedding('m', 'query six')) LIMIT 5) AS top;
--@ protocol text
--@ requests
-- Without the cache a bare constant call is still sent once a statement.
CALL mysql.ml_set_setting('cache_memory_mb', '0');
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, ml_embedding('m', 'query seven')) LIMIT 5) AS top;
--@ requests
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, mysql.ml_embedding('m', 'query eight')) LIMIT 5) AS top;
--@ requests
CALL mysql.ml_set_setting('cache_memory_mb', NULL);
-- A cache that is full of other texts still takes a new one in.
CALL mysql.ml_set_setting('cache_memory_mb', '1');
SELECT COUNT(mysql.ml_embedding('d', CONCAT('fill the cache ', id))) AS filled FROM docs;
SELECT COUNT(*) FROM (SELECT id FROM docs ORDER BY cosine_distance(v, mysql.ml_embedding('m', 'query nine')) LIMIT 5) AS top;
--@ requests
CALL mysql.ml_set_setting('cache_memory_mb', NULL);
-- A model's embeddings are removed from the cache.
CALL mysql.ml_cache_clear('m');
CALL mysql.ml_cache_clear('m');
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'query one')) AS dimensions;
SELECT ml_cache_clear(NULL) AS removed;
SELECT ml_cache_clear('no such model') AS removed;
--@ requests
-- A changed model is another model.
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'query one')) AS dimensions;
CALL mysql.ml_alter_model_registration('m', NULL, NULL, NULL, 'test-4', NULL, NULL, NULL, NULL, NULL);
SELECT VECTOR_DIM(mysql.ml_embedding('m', 'query one')) AS dimensions;
--@ requests
DROP DATABASE k;
CALL mysql.ml_drop_model_registration('m');
CALL mysql.ml_drop_model_registration('d');
