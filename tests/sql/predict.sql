-- ml_predict_row: JSON that MySQL's JSON functions take as it is.
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}', 'open_ai', 'generic', 'gpt-x', NULL, NULL, NULL, NULL, NULL);
SELECT JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('chat', '{"messages":[{"role":"user","content":"Grüße 😀"}]}'), '$.choices[0].message.content')) AS answer;
--@ last PATH
--@ last BODY
SELECT JSON_EXTRACT(ml_predict_row('chat', JSON_OBJECT('model', 'mine', 'messages', JSON_ARRAY(JSON_OBJECT('role', 'user', 'content', 'bare')))), '$.choices[0].message.content') AS answer;
SELECT JSON_VALUE(ml_predict_row('chat', '{"messages":[{"role":"user","content":"value"}]}'), '$.choices[0].message.content') AS answer;
SELECT t.content FROM JSON_TABLE(ml_predict_row('chat', '{"messages":[{"role":"user","content":"table"}]}'), '$.choices[*]' COLUMNS (content TEXT PATH '$.message.content')) AS t;
SELECT t.content FROM JSON_TABLE(mysql.ml_predict_row('chat', '{"messages":[{"role":"user","content":"table"}]}'), '$.choices[*]' COLUMNS (content TEXT PATH '$.message.content')) AS t;
SELECT CHARSET(ml_predict_row('chat', '{"messages":[{"role":"user","content":"x"}]}')) AS bare, JSON_TYPE(mysql.ml_predict_row('chat', '{"messages":[{"role":"user","content":"x"}]}')) AS wrapped;
SELECT mysql.ml_predict_row('chat', NULL), mysql.ml_predict_row(NULL, '{}'), ml_predict_row('chat', NULL);

-- An answer may differ each time: a constant request is sent for each row.
--@ requests
SELECT COUNT(ml_predict_row('chat', '{"messages":[{"role":"user","content":"each row"}]}')) AS bare, COUNT(mysql.ml_predict_row('chat', '{"messages":[{"role":"user","content":"each row"}]}')) AS wrapped FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS three;
-- Invalid JSON does not reach the endpoint.
--@ requests
SELECT mysql.ml_predict_row('chat', '{"messages":');
SELECT ml_predict_row('chat', '{"messages":');
--@ requests

-- Large answers and requests arrive whole.
CALL mysql.ml_create_model_registration('big', '{{endpoint}}/bytes/4194304', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT LENGTH(mysql.ml_predict_row('big', '{}')) AS wrapped, LENGTH(ml_predict_row('big', '{}')) AS bare;
CALL mysql.ml_create_model_registration('echo', '{{endpoint}}/echo', 'custom', 'generic', NULL, NULL, NULL, NULL, NULL, NULL);
SELECT LENGTH(JSON_UNQUOTE(JSON_EXTRACT(mysql.ml_predict_row('echo', JSON_OBJECT('text', REPEAT('é', 2000000))), '$.body.text'))) AS wrapped;
SELECT LENGTH(JSON_UNQUOTE(JSON_EXTRACT(ml_predict_row('echo', JSON_OBJECT('text', REPEAT('é', 2000000))), '$.body.text'))) AS bare;
CREATE DATABASE p;
CREATE TABLE p.c AS SELECT ml_predict_row('big', '{}') AS bare, mysql.ml_predict_row('big', '{}') AS wrapped;
SELECT LENGTH(bare), LENGTH(wrapped) FROM p.c;
SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'p' ORDER BY ORDINAL_POSITION;
DROP DATABASE p;
CALL mysql.ml_set_setting('max_response_mb', '1');
SELECT mysql.ml_predict_row('big', '{}');
CALL mysql.ml_set_setting('max_response_mb', NULL);

-- A request that the body does not need: no model is added where there is no qualified name.
SELECT JSON_EXTRACT(mysql.ml_predict_row('echo', '[1, {"a": null}]'), '$.body') AS body;
CALL mysql.ml_drop_model_registration('chat');
CALL mysql.ml_drop_model_registration('big');
CALL mysql.ml_drop_model_registration('echo');
