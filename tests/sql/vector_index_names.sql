-- Vector indexes by the names and options of Cloud SQL.
SET GLOBAL event_scheduler = OFF;
CREATE DATABASE x;
USE x;
CREATE TABLE docs (id INT PRIMARY KEY AUTO_INCREMENT, v VARBINARY(16));
INSERT INTO docs (v) WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 299) SELECT STRING_TO_VECTOR(CONCAT('[', COS(i * 0.7), ',', SIN(i * 0.7), ',', COS(i * 0.31) * 0.5, ',', i * 0.001, ']')) FROM n;
SET @q = STRING_TO_VECTOR('[1, 0, 0.5, 0.1]');
CALL mysql.create_vector_index('near', 'x.docs', 'v', 'index_type=TREE_SQ, distance_measure=l2_squared, num_partitions=5');
SELECT * FROM mysql.vector_indexes;
CALL ai.search('x.docs', 'v', @q, 2, '{"columns": ["id"]}');
SELECT JSON_VALUE(ml_vector_search_status(), '$.path') AS path;
-- Another measure, in the schema that the name gives; L2_SQUARED is the default.
CALL mysql.create_vector_index('x.`also`', 'x.docs', 'v', 'distance_measure=cosine,index_type=TREE_AH,num_neighbors=20');
CALL mysql.alter_vector_index('x.near', 'num_partitions=7,distance_measure=squared_l2');
SELECT index_name, distance_measure, num_partitions, status FROM mysql.vector_indexes ORDER BY index_name;
-- An index without a name has that of its event.
CREATE TABLE others LIKE docs;
CALL mysql.create_vector_index('near2', 'x.others', 'v', '');
CALL mysql.drop_vector_index('near2');
CALL ai.create_vector_index('x.others', 'v', NULL);
SELECT index_name LIKE 'x.ml_vectors_%' AS named, table_name, dimension, distance_measure FROM mysql.vector_indexes WHERE table_name = 'x.others';
SET @drop = (SELECT CONCAT('CALL mysql.drop_vector_index(', QUOTE(index_name), ')') FROM mysql.vector_indexes WHERE table_name = 'x.others');
PREPARE p FROM @drop;
EXECUTE p;
-- What is refused.
CALL mysql.create_vector_index('near', 'x.others', 'v', NULL);
CALL mysql.create_vector_index('NEAR', 'x.others', 'v', NULL);
CALL mysql.create_vector_index('third', 'x.docs', 'v', NULL);
CALL mysql.create_vector_index('y.third', 'x.others', 'v', NULL);
CALL mysql.create_vector_index('third', 'others', 'v', NULL);
CALL mysql.create_vector_index('third', 'x.others', 'v', 'index_type=BRUTE_FORCE');
CALL mysql.create_vector_index('third', 'x.others', 'v', 'num_partitions=none');
CALL mysql.create_vector_index('third', 'x.others', 'v', 'quantizer=SQ8');
CALL mysql.create_vector_index('third', 'x.others', 'v', 'cosine');
CALL mysql.create_vector_index(NULL, 'x.others', 'v', NULL);
CALL mysql.create_vector_index('', 'x.others', 'v', NULL);
CALL mysql.alter_vector_index('x.near', 'distance_measure=cosine');
CALL mysql.alter_vector_index('x.third', NULL);
CALL mysql.drop_vector_index('third');
-- Rights: those of the ai procedures. Nobody learns of an index of another's table.
CREATE USER reader@localhost, bare@localhost;
GRANT ml_user TO reader@localhost;
SET DEFAULT ROLE ALL TO reader@localhost;
GRANT SELECT ON x.docs TO reader@localhost;
--@ user reader
CALL mysql.drop_vector_index('x.near');
CALL mysql.alter_vector_index('near', NULL);
CALL mysql.create_vector_index('mine', 'x.others', 'v', NULL);
SELECT index_name FROM mysql.vector_indexes ORDER BY index_name;
--@ user bare
CALL mysql.drop_vector_index('x.near');
SELECT ml_drop_vector_index('x.near');
SELECT ml_create_vector_index('mine', 'x.docs', 'v');
SELECT * FROM mysql.vector_indexes;
--@ user root
CALL mysql.drop_vector_index('NEAR');
CALL mysql.drop_vector_index('x.also');
SELECT COUNT(*) FROM mysql.vector_indexes;
DROP USER reader@localhost, bare@localhost;
DROP DATABASE x;
SET GLOBAL event_scheduler = DEFAULT;
