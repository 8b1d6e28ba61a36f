-- ai.chunk: a text as an array of chunks.
SELECT ai.chunk('One two three. Four five six. Seven.', '{"size": 20}') AS chunks;
SELECT ai_chunk('One two three.') AS defaults, ai.chunk('', NULL) AS empty_text, ai.chunk(' \r\n ', NULL) AS white_space, ai.chunk(NULL, '{"size": 20}') AS no_text;
SELECT ai_chunk('{"by": "words", "size": 2, "overlap": 1}' AS options, 'a b c' AS text) AS named;
-- Rows by JSON_TABLE; each chunk is a part of its text, in the characters of MySQL.
CREATE DATABASE chunks;
USE chunks;
CREATE TABLE articles (id INT PRIMARY KEY, body TEXT);
INSERT INTO articles VALUES
  (1, 'Grüße! 👩‍👩‍👧 sind da.\r\n\r\nEin zweiter Absatz.'),
  (2, '这是第一句。这是第二句！'),
  (3, ''),
  (4, NULL);
UPDATE articles SET body = CONCAT(body, ' e', _utf8mb4 x'CC81', ' ende') WHERE id = 1;
SELECT a.id, c.number, c.chunk, c.start, c.length, CAST(c.chunk AS BINARY) = CAST(SUBSTRING(a.body, c.start, c.length) AS BINARY) AS same
  FROM articles a
  JOIN JSON_TABLE(ai.chunk(a.body, '{"size": 12, "overlap": 4}'), '$[*]' COLUMNS (
    number FOR ORDINALITY, chunk TEXT PATH '$.chunk', start INT PATH '$.start', length INT PATH '$.length')) AS c
  ORDER BY a.id, c.number;
-- A column in another character set counts its own characters.
CREATE TABLE old (body TEXT CHARACTER SET latin1);
INSERT INTO old VALUES ('Grüße aus Köln. Schöne Grüße.');
SELECT c.chunk, SUBSTRING(body, c.start, c.length) = c.chunk AS same FROM old
  JOIN JSON_TABLE(ai.chunk(body, '{"by": "sentences", "size": 1}'), '$[*]' COLUMNS (
    chunk TEXT PATH '$.chunk', start INT PATH '$.start', length INT PATH '$.length')) AS c;
DROP DATABASE chunks;
-- The other units.
SELECT ai.chunk('One. Two? Three! Four', '{"by": "sentences", "size": 2}') AS sentences;
SELECT ai.chunk('# One\n\nText.\n\n# Two\n\nMore.', '{"by": "markdown"}') AS sections;
-- Tokens of a model inside the server, with those that it adds to each text.
CALL mysql.ml_create_model_registration('tiny', 'tiny', 'bert_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('d', NULL, 'dummy', 'text_embedding', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT c.chunk, JSON_EXTRACT(ai.count_tokens('tiny', c.chunk), '$.tokens') AS tokens
  FROM JSON_TABLE(ai.chunk('the cat sat on the mat, where is my order? my wifi is slow', '{"by": "tokens", "size": 8, "model_id": "tiny"}'),
    '$[*]' COLUMNS (chunk TEXT PATH '$.chunk')) AS c;
-- The model's own maximum, and the model of the setting.
CALL mysql.ml_set_setting('default_embedding_model', 'tiny');
SELECT c.length, JSON_EXTRACT(ai.count_tokens('tiny', c.chunk), '$.tokens') AS tokens
  FROM JSON_TABLE(ai.chunk(REPEAT('the cat sat ', 8), '{"by": "tokens"}'), '$[*]' COLUMNS (
    chunk TEXT PATH '$.chunk', length INT PATH '$.length')) AS c;
CALL mysql.ml_set_setting('default_embedding_model', NULL);
SELECT ai.chunk('x', '{"by": "tokens"}');
SELECT ai.chunk('x', '{"by": "tokens", "model_id": "d"}');
SELECT ai.chunk('x', '{"by": "tokens", "model_id": "missing"}');
SELECT ai.chunk('x', '{"by": "tokens", "model_id": "tiny", "size": 2}');
SELECT ai.chunk('x', '{"by": "tokens", "model_id": "tiny", "size": 8193}');
-- Options that are not known or out of bounds.
SELECT ai.chunk('x', '{"by": "lines"}');
SELECT ai.chunk('x', '{"size": 0}');
SELECT ai.chunk('x', '{"size": 10, "overlap": 6}');
SELECT ai.chunk('x', '{"length": 10}');
SELECT ai.chunk('x', '{"model_id": "tiny"}');
SELECT ai_chunk('x', '[');
SELECT ai_chunk();
-- A result that the client could not receive.
SELECT ai.chunk(REPEAT('ab ', 1000000), '{"size": 1}');
-- A constant text is cut once a statement; ai.query cuts before it asks.
SELECT COUNT(DISTINCT CAST(ai_chunk('a b', '{"size": 1}') AS CHAR)) AS same FROM (SELECT 1 UNION ALL SELECT 2) t;
-- Both forms need EXECUTE on the stored function.
CREATE USER stranger@localhost;
--@ user stranger
SELECT ai_chunk('x');
SELECT ai.chunk('x', NULL);
--@ user root
GRANT `ml_user` TO stranger@localhost;
SET DEFAULT ROLE `ml_user` TO stranger@localhost;
--@ user stranger
SELECT ai_chunk('x') AS chunks, ai.chunk('x', NULL) AS by_routine;
--@ user root
DROP USER stranger@localhost;
CALL mysql.ml_drop_model_registration('tiny');
CALL mysql.ml_drop_model_registration('d');
