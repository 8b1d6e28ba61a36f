-- What endpoints do wrong, and what the user is told.
CALL mysql.ml_set_setting('max_retries', '0');
DELIMITER //
CREATE PROCEDURE mysql.try_path(IN path TEXT)
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN DO ml_drop_model_registration('m'); RESIGNAL; END;
  CALL mysql.ml_create_model_registration('m', CONCAT('{{endpoint}}', path), 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
  SELECT VECTOR_DIM(mysql.ml_embedding('m', 'x')) AS dim;
  DO ml_drop_model_registration('m');
END //
DELIMITER ;
CALL mysql.try_path('/v1/embeddings');
CALL mysql.try_path('/gzip');
CALL mysql.try_path('/status/400');
CALL mysql.try_path('/status/401');
CALL mysql.try_path('/status/403');
CALL mysql.try_path('/status/404');
CALL mysql.try_path('/status/413');
CALL mysql.try_path('/status/422');
CALL mysql.try_path('/status/429');
CALL mysql.try_path('/status/500');
CALL mysql.try_path('/status/503');
CALL mysql.try_path('/status/529');
CALL mysql.try_path('/ratelimit');
CALL mysql.try_path('/quota');
CALL mysql.try_path('/redirect');
CALL mysql.try_path('/redirect-post');
CALL mysql.try_path('/not-json');
CALL mysql.try_path('/broken-json');
CALL mysql.try_path('/nan');
CALL mysql.try_path('/inf');
CALL mysql.try_path('/empty-embedding');
CALL mysql.try_path('/no-data');
CALL mysql.try_path('/deep');
CALL mysql.try_path('/truncated');
CALL mysql.try_path('/reset');
CALL mysql.try_path('/eof');
CALL mysql.try_path('/huge');
CALL mysql.try_path('/gzip-bomb');
CALL mysql.try_path('/wrong-width/20000');
CALL mysql.try_path('/wrong-width/16383');
DROP PROCEDURE mysql.try_path;

-- The same errors to ml_predict_row.
CALL mysql.ml_create_model_registration('p', '{{endpoint}}/status/401', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('p', '{}');
CALL mysql.ml_alter_model_registration('p', '{{endpoint}}/not-json', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('p', '{}');
CALL mysql.ml_alter_model_registration('p', '{{endpoint}}/deep', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('p', '{}');
-- A name that does not exist, a port where nobody listens.
CALL mysql.ml_alter_model_registration('p', 'https://no-such-host.invalid/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('p', '{}');
CALL mysql.ml_alter_model_registration('p', 'http://127.0.0.1:1/', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('p', '{}');
-- Plain http where TLS is expected.
CALL mysql.ml_alter_model_registration('p', REPLACE('{{endpoint}}/x', 'http://', 'https://'), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_predict_row('p', '{}');
CALL mysql.ml_set_setting('max_retries', NULL);

--@ clear
-- Retries: two failures, then an answer; a wait that is too long is not waited for.
CALL mysql.ml_create_model_registration('r', '{{endpoint}}/retry/2/503/0', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
--@ requests
SELECT VECTOR_DIM(mysql.ml_embedding('r', 'x')) AS dim;
--@ requests
CALL mysql.ml_alter_model_registration('r', '{{endpoint}}/retry/9/429/0', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('r', 'x');
--@ requests
CALL mysql.ml_alter_model_registration('r', '{{endpoint}}/ratelimit', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('r', 'x');
--@ requests
CALL mysql.ml_alter_model_registration('r', '{{endpoint}}/quota', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('r', 'x');
--@ requests
-- A deadline over everything.
CALL mysql.ml_set_model_options('r', '{"timeout_ms": 300}');
CALL mysql.ml_alter_model_registration('r', '{{endpoint}}/hang', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('r', 'x');
CALL mysql.ml_alter_model_registration('r', '{{endpoint}}/drip', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT mysql.ml_embedding('r', 'x');
-- A wrong key: the provider's words without the key it repeats.
CALL mysql.ml_create_sm_secret_registration('k', 'env:MYSQL_ML_SECRET_TEST');
CALL mysql.ml_create_model_registration('a', '{{endpoint}}/auth/embeddings', 'open_ai', 'text_embedding', 'test-8', 'secret_manager', 'k', NULL, NULL, NULL);
SELECT mysql.ml_embedding('a', 'x');
CALL mysql.ml_drop_model_registration('a');
CALL mysql.ml_drop_model_registration('p');
CALL mysql.ml_drop_model_registration('r');
CALL mysql.ml_drop_sm_secret_registration('k');
-- One failing row fails the statement; nothing is half done.
CALL mysql.ml_create_model_registration('m', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CREATE DATABASE er;
CREATE TABLE er.t (id INT PRIMARY KEY, body TEXT, v VECTOR(8));
INSERT INTO er.t (id, body) VALUES (1, 'fine'), (2, ''), (3, 'fine too');
UPDATE er.t SET v = mysql.ml_embedding('m', body);
SELECT COUNT(v) AS filled FROM er.t;
SELECT id, mysql.ml_embedding('m', body) IS NOT NULL AS ok FROM er.t ORDER BY id;
-- The arguments in each other's place.
SELECT mysql.ml_embedding('some text', 'm');
SELECT mysql.ml_embedding(REPEAT('long text ', 50), 'm');
SELECT ml_predict_row('{"input": "x"}', 'm');
SELECT mysql.ml_embedding('some text', 'another text');
DROP DATABASE er;
CALL mysql.ml_drop_model_registration('m');
