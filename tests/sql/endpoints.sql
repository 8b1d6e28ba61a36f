-- One name, many endpoints: what the options take, who answers, what is told.
CALL mysql.ml_create_model_registration('emb', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('twin', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('wide', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-16', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('chat', '{{endpoint}}/status/503', 'open_ai', 'llm', 'test', NULL, NULL, NULL, NULL, NULL);
CALL mysql.ml_create_model_registration('claude', '{{endpoint}}/v1/chat/completions', 'open_ai', 'llm', 'other', NULL, NULL, NULL, NULL, NULL);

-- What cannot be meant is refused, and nothing changes.
CALL mysql.ml_set_model_options('emb', '{"endpoints": []}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"weight": 0}]}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"adress": "https://h.example/"}]}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"url": "localhost:8080/v1"}]}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"url": "https://h.example/v1?api-key=abc"}]}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"url": "http://169.254.169.254/v1"}]}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"secret": "absent"}]}');
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"location": "eu"}]}');
CALL mysql.ml_set_model_options('emb', '{"hedge_after_ms": 50}');
CALL mysql.ml_set_model_options('emb', '{"hedge_after_ms": "95"}');
CALL mysql.ml_set_model_options('emb', '{"fallback": "emb"}');
CALL mysql.ml_set_model_options('emb', '{"fallback": "absent"}');
CALL mysql.ml_set_model_options('emb', '{"fallback": "wide"}');
CALL mysql.ml_set_model_options('emb', '{"fallback": "twin", "dimensions": 8}');
CALL mysql.ml_set_model_options('emb', '{"fallback": "chat"}');
SELECT options FROM mysql.cloudsql_ml_models WHERE model_id = 'emb';

-- Requests are divided, also those of arrays; an endpoint that fails is passed over.
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"name": "a", "weight": 3}, {"name": "b", "url": "{{endpoint}}/status/503"}, {"name": "c", "weight": 0}], "fallback": "twin", "max_retries": 0}');
SELECT VECTOR_DIM(mysql.ml_embedding('emb', CONCAT('text ', n))) AS width FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4) AS t;
SELECT JSON_LENGTH(mysql.ml_embedding_batch('emb', '["one", "two", "three"]')) AS texts;
SELECT e.name, e.weight, e.state, e.requests, e.failures, e.hedges, e.last_error FROM JSON_TABLE(mysql.ml_status(), '$.models.emb.endpoints[*]' COLUMNS (name VARCHAR(100) PATH '$.name', weight INT PATH '$.weight', state VARCHAR(20) PATH '$.state', requests INT PATH '$.requests', failures INT PATH '$.failures', hedges INT PATH '$.hedges', last_error TEXT PATH '$.last_error')) AS e;
SELECT JSON_VALUE(v, '$.ok') AS ok, JSON_VALUE(v, '$.error') AS error, JSON_EXTRACT(v, '$.endpoints[*].ok') AS endpoints, JSON_EXTRACT(v, '$.fallback[*].name') AS fallback FROM (SELECT CAST(mysql.ml_validate_model('emb') AS JSON) AS v) AS t;
SELECT JSON_EXTRACT(ai.explain_request('ml_embedding', '{"model_id": "emb", "content": "x"}'), '$.endpoints[*].name') AS endpoints, JSON_EXTRACT(ai.explain_request('ml_embedding', '{"model_id": "emb", "content": "x"}'), '$.fallback') AS fallback;

-- The fallback changes later: it is not used any more, and the error says why.
CALL mysql.ml_set_model_options('emb', '{"endpoints": [{"url": "{{endpoint}}/status/404"}]}');
SELECT VECTOR_DIM(mysql.ml_embedding('emb', 'by the twin')) AS width;
CALL mysql.ml_set_model_options('twin', '{"normalize": true}');
SELECT VECTOR_DIM(mysql.ml_embedding('emb', 'by nobody')) AS width;
CALL mysql.ml_set_model_options('twin', '{"fallback": "emb", "normalize": null}');
CALL mysql.ml_drop_model_registration('twin');
SELECT VECTOR_DIM(mysql.ml_embedding('emb', 'by nobody')) AS width;

-- A language model stands in for another, in functions and arrays; its answers are not kept as the other's.
CALL mysql.ml_set_model_options('chat', '{"fallback": "claude", "max_retries": 0, "cache_answers": true}');
SELECT ai.generate('a question', 'chat') AS answer;
SELECT ai.generate('a question', 'chat') AS answer;
SELECT ai.generate_batch('["one", "two"]', 'chat', NULL) AS answers;
SELECT JSON_VALUE(mysql.ml_status(), '$.models.chat.fallback_requests') AS by_the_other;
CALL mysql.ml_set_model_options('claude', '{"fallback": "chat"}');

CALL mysql.ml_drop_model_registration('emb');
CALL mysql.ml_drop_model_registration('wide');
CALL mysql.ml_drop_model_registration('chat');
CALL mysql.ml_drop_model_registration('claude');
