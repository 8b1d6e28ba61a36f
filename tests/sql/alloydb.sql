-- The samples of AlloyDB's documentation for its AI functions, in MySQL, over data of our own. What differs, and why:
--   ||          is OR in MySQL: CONCAT, or the SQL mode PIPES_AS_CONCAT (below), which takes AlloyDB's text as it is
--   AI.IF       schemas in MySQL have the case of their names: ai.if
--   prompt =>   stored functions in MySQL have no named and no optional arguments: NULL means the default model, or the
--               loadable function, with AS for the name and optional arguments: ai_if('...' AS prompt)
--   TEXT[]      MySQL has no array type and no overloads: JSON arrays, and functions of their own, ai.if_batch and others
--   batch_size  the option concurrency; texts never share a request
--   UNNEST      JSON_TABLE
--   cursors     a MySQL cursor is no value: CALL ai.query(...) takes the SELECT
--   aggregates  ai_agg_summarize: a stored function cannot be an aggregate, and loadable ones have no schema
--   boolean     1, 0, and NULL if the model cannot tell
-- The fake model's answer follows words of the prompt: yes, score=NUMBER, positive. The data have them.
CALL mysql.ml_create_sm_secret_registration('key', 'file:endpoint-key');
CALL mysql.ml_create_model_registration('gemini-2.5-flash', NULL, 'google', 'llm', 'gemini-2.5-flash', 'secret_manager', 'key', NULL, NULL, NULL);
CALL mysql.ml_set_setting('default_llm', 'gemini-2.5-flash');
CREATE DATABASE alloydb;
CREATE TABLE alloydb.restaurant_reviews (id INT PRIMARY KEY, name VARCHAR(50), location_city VARCHAR(50), review TEXT);
INSERT INTO alloydb.restaurant_reviews VALUES (1, 'Blue Door', 'Berlin', 'The noodles were excellent. (yes, score=0.9)'), (2, 'Blue Door', 'Berlin', 'We come back every week. (yes, score=0.8)'), (3, 'Old Mill', 'Zons', 'Cold soup, and we waited an hour. (score=0.1)'), (4, 'Harbour', 'Oslo', 'The fish was fine. (yes, score=0.5)'), (5, 'Harbour', 'Oslo', NULL);
CREATE TABLE alloydb.user_reviews (id INT PRIMARY KEY, review_text TEXT);
INSERT INTO alloydb.user_reviews VALUES (1, 'The soup was cold, but the cake was great.'), (2, 'I would come again for the cake.'), (3, 'Loud music.');
CREATE TABLE alloydb.menu_items (item_name VARCHAR(50) PRIMARY KEY);
INSERT INTO alloydb.menu_items VALUES ('cake'), ('soup'), ('steak');

-- A prompt: the default model, and a registered one.
SELECT ai.generate('What is AlloyDB?', NULL) AS answer;
SELECT ai.generate('What is AlloyDB?', 'gemini-2.5-flash') AS answer;
SELECT ai_generate('gemini-2.5-flash' AS model_id, 'What is AlloyDB?' AS prompt) AS answer;

-- ai.if as a filter, in AlloyDB's words and in MySQL's.
SET @mode = @@sql_mode, sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT');
SELECT r.name, r.location_city FROM alloydb.restaurant_reviews r WHERE ai.if(r.location_city || ' has a population OF more than 100,000 AND the following is a positive review; Review: ' || r.review, NULL) GROUP BY r.name, r.location_city HAVING COUNT(*) > 1;
SET sql_mode = @mode;
SELECT r.name, r.location_city FROM alloydb.restaurant_reviews r WHERE ai.if(CONCAT(r.location_city, ' has a population of more than 100,000 and the following is a positive review; Review: ', r.review), NULL) GROUP BY r.name, r.location_city HAVING COUNT(*) > 1;
-- The same rows, asked together.
CALL ai.query('SELECT r.name, r.location_city, COUNT(*) AS n FROM alloydb.restaurant_reviews r WHERE ai.if(CONCAT(r.location_city, '' has a population of more than 100,000 and the following is a positive review; Review: '', r.review), NULL) GROUP BY r.name, r.location_city ORDER BY r.name', NULL);

-- ai.if in a join. The fake cannot read: the prompt says which pairs belong together.
SELECT item_name, COUNT(*) AS n FROM alloydb.menu_items JOIN alloydb.user_reviews ON ai.if(CONCAT('Does the following user review talk about the menu item mentioned? Review: ', user_reviews.review_text, ' Menu item: ', item_name, IF(LOCATE(item_name, review_text), ' (yes)', '')), 'gemini-2.5-flash') GROUP BY item_name ORDER BY item_name;
CALL ai.query('SELECT item_name, COUNT(*) AS n FROM alloydb.menu_items JOIN alloydb.user_reviews ON ai.if(CONCAT(''Does the following user review talk about the menu item mentioned? Review: '', user_reviews.review_text, '' Menu item: '', item_name, IF(LOCATE(item_name, review_text), '' (yes)'', '''')), ''gemini-2.5-flash'') GROUP BY item_name ORDER BY item_name', NULL);

-- Arrays of prompts, and their answers beside the rows.
--@ requests
WITH answers AS (SELECT JSON_ARRAYAGG(id) AS ids, ai.if_batch(JSON_ARRAYAGG(CONCAT('Is the following a positive review? Review: ', review)), 'gemini-2.5-flash', '{"concurrency": 20}') AS list FROM alloydb.restaurant_reviews WHERE review IS NOT NULL) SELECT i.id, a.answer FROM answers JOIN JSON_TABLE(ids, '$[*]' COLUMNS (n FOR ORDINALITY, id INT PATH '$')) i JOIN JSON_TABLE(list, '$[*]' COLUMNS (n FOR ORDINALITY, answer VARCHAR(10) PATH '$')) a ON a.n = i.n ORDER BY i.id;
--@ requests

-- ai.generate over rows: one by one, as an array, as a query.
SELECT id, ai.generate(CONCAT('Summarize the review in 20 words or less. Review: ', review), NULL) AS review_summary FROM alloydb.restaurant_reviews ORDER BY id;
SELECT s.review_summary FROM (SELECT JSON_ARRAYAGG(CONCAT('Summarize the review in 20 words or less. Review: ', review)) AS texts FROM alloydb.restaurant_reviews WHERE id < 3) p, JSON_TABLE(ai.generate_batch(p.texts, NULL, NULL), '$[*]' COLUMNS (review_summary TEXT PATH '$')) s;
CALL ai.query('SELECT id, ai.generate(CONCAT(''Summarize the review in 20 words or less. Review: '', review), NULL) AS review_summary FROM alloydb.restaurant_reviews ORDER BY id', NULL);

-- ai.rank in ORDER BY. Its scale is 0 to 1, whatever scale the prompt names.
SELECT review AS top20 FROM alloydb.restaurant_reviews WHERE review IS NOT NULL ORDER BY ai.rank(CONCAT('Score the following review: (1) the highest score if the review says the food is excellent, (2) a middle score if it says the food is ok, (3) the lowest score if it says the food is not good. Here is the review: ', review), NULL) DESC LIMIT 20;
CALL ai.query('SELECT review AS top2 FROM alloydb.restaurant_reviews ORDER BY ai.rank(CONCAT(''Score the following review: '', review), ''gemini-2.5-flash'') DESC LIMIT 2', NULL);
SELECT s.score FROM (SELECT JSON_ARRAYAGG(CONCAT('Score the following review: ', review)) AS texts FROM alloydb.restaurant_reviews WHERE id < 4) p, JSON_TABLE(ai.rank_batch(p.texts, NULL, NULL), '$[*]' COLUMNS (score DOUBLE PATH '$')) s;

-- ai.analyze_sentiment. AlloyDB has positive, negative and neutral; mixed comes besides.
SELECT ai.analyze_sentiment('The movie was great: a positive surprise.', NULL) AS sentiment;
CREATE TABLE alloydb.reviews (id INT PRIMARY KEY, review_content TEXT);
INSERT INTO alloydb.reviews VALUES (1, 'This movie is very good. (positive)'), (2, 'The actors play badly. (negative)'), (3, 'It takes two hours.');
SELECT review_content, ai.analyze_sentiment(review_content, NULL) AS sentiment FROM alloydb.reviews ORDER BY id;
SELECT ai.analyze_sentiment_batch((SELECT JSON_ARRAYAGG(review_content) FROM alloydb.reviews), 'gemini-2.5-flash', NULL) AS sentiments;
CALL ai.query('SELECT ai.analyze_sentiment(review_content, NULL) AS sentiment, COUNT(*) AS n FROM alloydb.reviews GROUP BY sentiment ORDER BY sentiment', NULL);

-- ai.summarize.
SELECT ai.summarize('AlloyDB is a database.', NULL) AS summary;
SELECT id, ai.summarize(review_content, 'gemini-2.5-flash') AS summary FROM alloydb.reviews ORDER BY id;
SELECT ai.summarize_batch((SELECT JSON_ARRAYAGG(review_content) FROM alloydb.reviews WHERE id < 3), NULL, NULL) AS summaries;

-- ai.agg_summarize.
CREATE TABLE alloydb.movie_reviews (id INT PRIMARY KEY, movie_id INT, review TEXT);
INSERT INTO alloydb.movie_reviews VALUES (1, 1, 'Tense from the first minute.'), (2, 1, 'The second act is slow.'), (3, 2, 'A comedy without jokes.');
SELECT movie_id, ai_agg_summarize(review, 'gemini-2.5-flash') AS summary FROM alloydb.movie_reviews GROUP BY movie_id ORDER BY movie_id;
SELECT movie_id, ai_agg_summarize(review) AS by_default FROM alloydb.movie_reviews GROUP BY movie_id ORDER BY movie_id;

-- ai.embedding, and a search by it. The vector is MySQL's type VECTOR, and <=> is cosine_distance.
CREATE TABLE alloydb.product (id INT PRIMARY KEY, description VARCHAR(200), embedding VECTOR(768));
INSERT INTO alloydb.product (id, description) VALUES (1, 'equipment for a personal gym'), (2, 'garden chairs'), (3, 'a personal diary'), (4, 'fitness equipment, personal size');
UPDATE alloydb.product SET embedding = ai.embedding('text-embedding-005', description);
SELECT id, VECTOR_DIM(embedding) AS dimensions FROM alloydb.product ORDER BY cosine_distance(embedding, ai.embedding('text-embedding-005', 'garden chairs')) LIMIT 1;
-- ai.rank of documents is a table in AlloyDB, and ai.rerank here, a JSON array: names are not overloaded.
CALL mysql.ml_create_model_registration('semantic-ranker', NULL, 'google', 'reranking', 'semantic-ranker-default-003', NULL, NULL, NULL, NULL, NULL);
SELECT r.`index`, r.score FROM JSON_TABLE(ai.rerank('semantic-ranker', 'fitness', '["car repair", "fitness equipment", "fitness"]', 2), '$[*]' COLUMNS (`index` INT PATH '$.index', score DOUBLE PATH '$.score')) r;
-- A search by vectors whose results are ranked again. JSON_ARRAYAGG has no order of its own: the ids go with the texts.
WITH nearest AS (SELECT id, description FROM alloydb.product ORDER BY cosine_distance(embedding, ai.embedding('text-embedding-005', 'personal fitness equipment')) LIMIT 10), documents AS (SELECT JSON_ARRAYAGG(id) AS ids, ai.rerank('semantic-ranker', 'personal fitness equipment', JSON_ARRAYAGG(description), NULL) AS ranking FROM nearest) SELECT p.id, p.description, r.score FROM documents JOIN JSON_TABLE(ranking, '$[*]' COLUMNS (n INT PATH '$.index', score DOUBLE PATH '$.score')) r JOIN JSON_TABLE(ids, '$[*]' COLUMNS (n FOR ORDINALITY, id INT PATH '$')) i ON i.n = r.n JOIN alloydb.product p ON p.id = i.id ORDER BY r.score DESC, p.id;

DROP DATABASE alloydb;
CALL mysql.ml_set_setting('default_llm', NULL);
CALL mysql.ml_drop_model_registration('gemini-2.5-flash');
CALL mysql.ml_drop_model_registration('semantic-ranker');
CALL mysql.ml_drop_sm_secret_registration('key');
