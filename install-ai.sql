-- Adds the schema ai: AI functions and automatic embeddings, with AlloyDB's names. Run as an administrator, after install.sql, as often as you like:
--   mysql < install-ai.sql

-- Do not wait long for a call in progress: all others would wait behind this.
SET SESSION lock_wait_timeout = 10;

-- "FUNCTION ml_version does not exist" here means that install.sql was not run.
DO ml_version();

CREATE SCHEMA IF NOT EXISTS ai DEFAULT CHARACTER SET utf8mb4;

-- The storage of vector indexes, in a schema of the library's account. Rows of it are only proposals: a search reads each
-- row from its table, with the caller's rights.
CREATE SCHEMA IF NOT EXISTS mysql_ml DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS mysql_ml.vector_indexes (
  index_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  index_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_ci NULL COMMENT 'if it was given one',
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  column_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  distance_measure VARCHAR(16) NOT NULL,
  definer VARCHAR(288) NOT NULL COMMENT 'the account that created it, as which it works',
  object_name VARCHAR(64) NOT NULL COMMENT 'in the names of its triggers, its event and its view',
  layout VARBINARY(255) NOT NULL COMMENT 'the form of its codes',
  version INT UNSIGNED NULL COMMENT 'of the lists and blocks that serve; NULL before the first is built',
  lists INT UNSIGNED NOT NULL DEFAULT 0,
  coverage JSON NULL COMMENT 'shares of the nearest rows in a number of lists',
  row_count BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'when it was built',
  left_out BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'rows without a code',
  stale TEXT NULL COMMENT 'why it must be rebuilt',
  recall DOUBLE NULL COMMENT 'of the last check',
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  built_at TIMESTAMP(6) NULL,
  files VARCHAR(255) NULL COMMENT 'the files of the table, of whose rows it is made',
  checked_at TIMESTAMP(6) NULL,
  UNIQUE KEY (table_schema, table_name, column_name, distance_measure),
  UNIQUE KEY index_name (table_schema, index_name)
) ENGINE = InnoDB COMMENT 'mysql-ml: vector indexes';

CREATE TABLE IF NOT EXISTS mysql_ml.vector_lists (
  index_id INT UNSIGNED NOT NULL,
  version INT UNSIGNED NOT NULL,
  list INT UNSIGNED NOT NULL,
  centroid MEDIUMBLOB NOT NULL,
  PRIMARY KEY (index_id, version, list)
) ENGINE = InnoDB COMMENT 'mysql-ml: the centroids of vector indexes';

CREATE TABLE IF NOT EXISTS mysql_ml.vector_blocks (
  index_id INT UNSIGNED NOT NULL,
  version INT UNSIGNED NOT NULL,
  list INT UNSIGNED NOT NULL,
  block INT UNSIGNED NOT NULL,
  codes_count INT UNSIGNED NOT NULL,
  bytes INT UNSIGNED NOT NULL COMMENT 'of the codes',
  codes LONGBLOB NOT NULL,
  PRIMARY KEY (index_id, version, list, block)
) ENGINE = InnoDB COMMENT 'mysql-ml: codes and keys of the rows in a list';

CREATE TABLE IF NOT EXISTS mysql_ml.vector_changes (
  change_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  index_id INT UNSIGNED NOT NULL,
  row_key BLOB NOT NULL,
  PRIMARY KEY (index_id, change_id),
  KEY (change_id)
) ENGINE = InnoDB COMMENT 'mysql-ml: new and changed rows that are in no block yet';

-- Chunk tables, which are tables of users.
CREATE TABLE IF NOT EXISTS mysql_ml.chunk_tables (
  chunk_table_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source_table VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  text_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  definer VARCHAR(288) NOT NULL COMMENT 'the account that created it, as which it works',
  object_name VARCHAR(64) NOT NULL COMMENT 'in the names of its triggers, its event and its view',
  chunk_options JSON NOT NULL COMMENT 'of ai.chunk',
  rules INT UNSIGNED NOT NULL COMMENT 'version of the rules by which texts were cut',
  embedding_column VARCHAR(64) NULL COMMENT 'of the chunks',
  source_created VARCHAR(32) NULL COMMENT 'time of the source table when its rows were compared',
  pass_due BOOLEAN NOT NULL DEFAULT TRUE COMMENT 'whether all rows are to be compared with their chunks',
  pass_position BLOB NULL COMMENT 'how far they are',
  last_error TEXT NULL,
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  UNIQUE KEY (table_schema, table_name)
) ENGINE = InnoDB COMMENT 'mysql-ml: tables of chunks that follow a column of texts';

CREATE TABLE IF NOT EXISTS mysql_ml.chunk_changes (
  change_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  chunk_table_id INT UNSIGNED NOT NULL,
  row_key BLOB NOT NULL,
  PRIMARY KEY (chunk_table_id, change_id),
  KEY (change_id)
) ENGINE = InnoDB COMMENT 'mysql-ml: rows whose chunks are to be compared with their texts';

CREATE TABLE IF NOT EXISTS mysql_ml.chunk_failures (
  chunk_table_id INT UNSIGNED NOT NULL,
  key_digest BINARY(32) NOT NULL,
  row_key BLOB NOT NULL,
  shown_key JSON NOT NULL,
  reason TEXT NOT NULL,
  tries INT UNSIGNED NOT NULL DEFAULT 1,
  failed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (chunk_table_id, key_digest)
) ENGINE = InnoDB COMMENT 'mysql-ml: rows that could not be cut, which are tried again';

-- It gives INSERT on a view of the changes to the account of each index, whose triggers record them.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE VIEW, DROP ON mysql_ml.* TO `mysql_ml`@`localhost` WITH GRANT OPTION;
-- Tablespaces tell whether a partition was exchanged. They are in information_schema.INNODB_TABLESPACES_BRIEF.
GRANT PROCESS ON *.* TO `mysql_ml`@`localhost`;

SET
  @mysql_ml_sql_mode = @@SESSION.sql_mode,
  SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO';

-- They run as the caller, whose rights on the table count. The library asks the server whether the caller may embed tables.
-- Generated: routines of schema ai
-- AI functions, with AlloyDB's names. A NULL model is that of the setting default_llm.
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.generate(
    prompt LONGTEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS LONGTEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the answer of a language model to a prompt'
  RETURN ai_generate(prompt, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.if(
    prompt LONGTEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS BOOLEAN DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: whether a question or statement is true; NULL: it cannot be told'
  RETURN ai_if(prompt, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.rank(
    prompt LONGTEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS DOUBLE DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: a score from 0 to 1 by the criterion in the prompt'
  RETURN ai_rank(prompt, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.classify(
    input LONGTEXT CHARACTER SET utf8mb4,
    labels JSON,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS TEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the label that fits a text best'
  RETURN ai_classify(input, labels, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.extract(
    input LONGTEXT CHARACTER SET utf8mb4,
    fields JSON,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the fields of a text as a JSON object'
  RETURN ai_extract(input, fields, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.summarize(
    input LONGTEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS LONGTEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: a summary of a text'
  RETURN ai_summarize(input, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.analyze_sentiment(
    input LONGTEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS VARCHAR(8) CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: positive, negative, neutral or mixed'
  RETURN ai_analyze_sentiment(input, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.translate(
    input LONGTEXT CHARACTER SET utf8mb4,
    language TEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS LONGTEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: a text in another language'
  RETURN ai_translate(input, language, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.generate_batch(
    inputs JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.generate for an array of prompts, as an array'
  RETURN ai_generate_batch(inputs, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.if_batch(
    inputs JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.if for an array of prompts, as an array'
  RETURN ai_if_batch(inputs, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.rank_batch(
    inputs JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.rank for an array of prompts, as an array'
  RETURN ai_rank_batch(inputs, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.classify_batch(
    inputs JSON,
    labels JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.classify for an array of texts, as an array'
  RETURN ai_classify_batch(inputs, labels, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.extract_batch(
    inputs JSON,
    fields JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.extract for an array of texts, as an array'
  RETURN ai_extract_batch(inputs, fields, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.summarize_batch(
    inputs JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.summarize for an array of texts, as an array'
  RETURN ai_summarize_batch(inputs, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.analyze_sentiment_batch(
    inputs JSON,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.analyze_sentiment for an array of texts, as an array'
  RETURN ai_analyze_sentiment_batch(inputs, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.translate_batch(
    inputs JSON,
    language TEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: ai.translate for an array of texts, as an array'
  RETURN ai_translate_batch(inputs, language, model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.generate_table(
    model_id TEXT CHARACTER SET utf8mb4,
    table_name TEXT CHARACTER SET utf8mb4,
    prompt TEXT CHARACTER SET utf8mb4,
    output_column TEXT CHARACTER SET utf8mb4,
    options LONGTEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: asks a language model about the rows of a table, and writes the answers'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_generate_table(model_id, table_name, prompt, output_column, options) AS JSON),
    '$' COLUMNS (
      answered BIGINT UNSIGNED PATH '$.embedded',
      failed BIGINT UNSIGNED PATH '$.failed',
      skipped BIGINT UNSIGNED PATH '$.skipped',
      seconds DOUBLE PATH '$.seconds',
      `rows` BIGINT UNSIGNED PATH '$.rows',
      distinct_inputs BIGINT UNSIGNED PATH '$.distinct_inputs',
      requests BIGINT UNSIGNED PATH '$.requests',
      tokens BIGINT UNSIGNED PATH '$.tokens',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

DELIMITER //
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.query(
    statement LONGTEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: runs a SELECT whose calls of models are made together'
  BEGIN
    DECLARE warnings, code INT DEFAULT 0;
    DECLARE text TEXT CHARACTER SET utf8mb4;
    -- The statement has no warning 1.
    DECLARE CONTINUE HANDLER FOR 1758 BEGIN END;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN DO ai_query_end(); RESIGNAL; END;
    SET @mysql_ml_statement = ai_query(statement, options);
    PREPARE mysql_ml_statement FROM @mysql_ml_statement;
    EXECUTE mysql_ml_statement;
    GET DIAGNOSTICS warnings = NUMBER;
    GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO, text = MESSAGE_TEXT;
    DEALLOCATE PREPARE mysql_ml_statement;
    SET @mysql_ml_statement = NULL;
    -- The statements since have cleared its warnings.
    DO ai_query_end(warnings, code, text);
  END//
DELIMITER ;

-- A NULL model is that of the setting default_embedding_model.
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.embedding(
    model_id TEXT CHARACTER SET utf8mb4,
    content LONGTEXT CHARACTER SET utf8mb4)
  RETURNS VECTOR(16383) DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the embedding of a text as a VECTOR'
  RETURN ai_embedding(model_id, content);

-- A NULL model is that of the setting default_reranker.
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.rerank(
    model_id TEXT CHARACTER SET utf8mb4,
    query LONGTEXT CHARACTER SET utf8mb4,
    documents JSON,
    top_n INT)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: documents ranked for a query, best first: index, score, document'
  RETURN ai_rerank(model_id, query, documents, top_n);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.similarity(
    a LONGTEXT CHARACTER SET utf8mb4,
    b LONGTEXT CHARACTER SET utf8mb4,
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS DOUBLE DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the cosine similarity of the embeddings of two texts'
  RETURN ai_similarity(a, b, model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.count_tokens(
    model_id TEXT CHARACTER SET utf8mb4,
    text LONGTEXT CHARACTER SET utf8mb4)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the tokens of a text, and whether the number is exact'
  RETURN ai_count_tokens(model_id, text);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.chunk(
    text LONGTEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: a text as an array of chunks: chunk, start, length'
  RETURN ai_chunk(text, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.explain_request(
    function_name TEXT CHARACTER SET utf8mb4,
    arguments JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the request that a function would send; nothing is sent'
  RETURN ai_explain_request(function_name, arguments);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.initialize_embeddings(
    model_id TEXT CHARACTER SET utf8mb4,
    table_name TEXT CHARACTER SET utf8mb4,
    content_column TEXT CHARACTER SET utf8mb4,
    embedding_column TEXT CHARACTER SET utf8mb4,
    batch_size INT,
    incremental_refresh_mode TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: embeds a column and keeps it so'
  SELECT r.* FROM JSON_TABLE(
    CAST(ml_initialize_embeddings(
    model_id, table_name,
    content_column, embedding_column,
    batch_size, incremental_refresh_mode) AS JSON),
    '$' COLUMNS (
      embedded BIGINT UNSIGNED PATH '$.embedded',
      failed BIGINT UNSIGNED PATH '$.failed',
      skipped BIGINT UNSIGNED PATH '$.skipped',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.refresh_embeddings(
    table_name TEXT CHARACTER SET utf8mb4,
    embedding_column TEXT CHARACTER SET utf8mb4,
    batch_size INT)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: embeds what lacks a vector; NULL: of all columns, of all tables that the caller initialized'
  SELECT r.* FROM JSON_TABLE(
    CAST(ml_refresh_embeddings(table_name, embedding_column, batch_size) AS JSON),
    '$' COLUMNS (
      embedded BIGINT UNSIGNED PATH '$.embedded',
      failed BIGINT UNSIGNED PATH '$.failed',
      skipped BIGINT UNSIGNED PATH '$.skipped',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.drop_embedding_config(
    table_name TEXT CHARACTER SET utf8mb4,
    embedding_column TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: forgets a column; its vectors stay'
  DO ml_drop_embedding_config(table_name, embedding_column);

-- Vector indexes. The caller needs the rights on the table; the index works as its account.
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.create_vector_index(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: creates a vector index on a column'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_create_vector_index(table_name, column_name, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      left_out BIGINT UNSIGNED PATH '$.left_out',
      lists BIGINT UNSIGNED PATH '$.lists',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.rebuild_vector_index(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: builds a vector index again while the old version serves'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_rebuild_vector_index(table_name, column_name, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      left_out BIGINT UNSIGNED PATH '$.left_out',
      lists BIGINT UNSIGNED PATH '$.lists',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.refresh_vector_index(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: moves changed rows into a vector index'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_refresh_vector_index(table_name, column_name, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      merged_lists BIGINT UNSIGNED PATH '$.lists',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.drop_vector_index(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: removes a vector index'
  DO ai_drop_vector_index(table_name, column_name, options);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.check_vector_index(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: compares a vector index with its table and measures its recall'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_check_vector_index(table_name, column_name, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      missing BIGINT UNSIGNED PATH '$.missing',
      dead BIGINT UNSIGNED PATH '$.dead',
      queries BIGINT UNSIGNED PATH '$.queries',
      recall DOUBLE PATH '$.recall',
      seconds DOUBLE PATH '$.seconds')) AS r;

-- Chunk tables. The caller needs the rights on both tables; the work is done as its account.
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.create_chunks(
    source_table TEXT CHARACTER SET utf8mb4,
    text_column TEXT CHARACTER SET utf8mb4,
    chunk_table TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: creates a table of the chunks of the texts in a column, and keeps it so'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_create_chunks(source_table, text_column, chunk_table, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      inserted BIGINT UNSIGNED PATH '$.inserted',
      moved BIGINT UNSIGNED PATH '$.moved',
      removed BIGINT UNSIGNED PATH '$.removed',
      failed BIGINT UNSIGNED PATH '$.failed',
      embedded BIGINT UNSIGNED PATH '$.embedded',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.refresh_chunks(
    chunk_table TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: cuts changed rows into chunks'
  SELECT r.* FROM JSON_TABLE(
    CAST(ai_refresh_chunks(chunk_table, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      inserted BIGINT UNSIGNED PATH '$.inserted',
      moved BIGINT UNSIGNED PATH '$.moved',
      removed BIGINT UNSIGNED PATH '$.removed',
      failed BIGINT UNSIGNED PATH '$.failed',
      embedded BIGINT UNSIGNED PATH '$.embedded',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.drop_chunks(
    chunk_table TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: a chunk table follows its source no more; its rows stay'
  DO ai_drop_chunks(chunk_table, options);

DELIMITER //
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.search(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    query LONGBLOB,
    k INT,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the rows of a table whose vectors are nearest to a vector or a text'
  BEGIN
    DECLARE own BOOLEAN DEFAULT FALSE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
      DO ai_search_end();
      IF own THEN ROLLBACK; END IF;
      RESIGNAL;
    END;
    SET own = ai_search_begin(table_name, column_name, query, k, options);
    IF own THEN
      SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
      START TRANSACTION;
    END IF;
    SET @mysql_ml_found = NULL, @mysql_ml_search = ai_search_next(NULL);
    WHILE @mysql_ml_search IS NOT NULL DO
      PREPARE mysql_ml_search FROM @mysql_ml_search;
      EXECUTE mysql_ml_search;
      DEALLOCATE PREPARE mysql_ml_search;
      SET @mysql_ml_search = ai_search_next(@mysql_ml_found);
    END WHILE;
    SET @mysql_ml_found = NULL;
    IF own THEN COMMIT; END IF;
  END//
DELIMITER ;

DELIMITER //
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS ai.answer(
    question LONGTEXT CHARACTER SET utf8mb4,
    table_name TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: answers a question from the rows of a table, with citations'
  BEGIN
    DECLARE own BOOLEAN DEFAULT FALSE;
    DECLARE found LONGTEXT CHARACTER SET utf8mb4;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
      DO ai_search_end();
      IF own THEN ROLLBACK; END IF;
      RESIGNAL;
    END;
    SET own = ai_answer_begin(question, table_name, options);
    IF own THEN
      SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
      START TRANSACTION;
    END IF;
    SET @mysql_ml_found = NULL, @mysql_ml_search = ai_search_next(NULL);
    WHILE @mysql_ml_search IS NOT NULL DO
      PREPARE mysql_ml_search FROM @mysql_ml_search;
      EXECUTE mysql_ml_search;
      DEALLOCATE PREPARE mysql_ml_search;
      SET @mysql_ml_search = ai_search_next(@mysql_ml_found);
    END WHILE;
    SET found = @mysql_ml_found, @mysql_ml_found = NULL;
    IF own THEN COMMIT; SET own = FALSE; END IF;
    SET found = ai_answer(question, found, JSON_REMOVE(options, '$.column', '$.k', '$.source_column', '$.search'));
    SELECT r.* FROM JSON_TABLE(
      CAST(found AS JSON),
      '$' COLUMNS (
        answered BOOLEAN PATH '$.answered',
        answer LONGTEXT CHARACTER SET utf8mb4 PATH '$.answer',
        citations JSON PATH '$.citations',
        sources JSON PATH '$.sources',
        reason TEXT CHARACTER SET utf8mb4 PATH '$.reason',
        model TEXT CHARACTER SET utf8mb4 PATH '$.model')) AS r;
  END//
DELIMITER ;

DELIMITER //
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS ai.vector_candidates(
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    query LONGBLOB,
    k INT,
    options JSON)
  RETURNS JSON NOT DETERMINISTIC READS SQL DATA SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the keys of rows that are probably nearest to a vector, as an array'
  BEGIN
    DECLARE plan, found LONGTEXT CHARACTER SET utf8mb4;
    SET plan = ai_vector_candidates(table_name, column_name, query, k, options);
    SET found = mysql_ml.vector_candidates(
      JSON_VALUE(plan, '$.index' RETURNING UNSIGNED), query, JSON_VALUE(plan, '$.lists' RETURNING UNSIGNED), k,
      JSON_VALUE(plan, '$.most' RETURNING UNSIGNED), JSON_VALUE(plan, '$.most' RETURNING UNSIGNED));
    RETURN ai_vector_candidate_keys(table_name, column_name, options, found);
  END//
DELIMITER ;
-- End of routines of schema ai

-- What a search reads of an index, in the caller's snapshot. A session may call it once after the library has checked that its
-- account may read the table; ml_vector_choose and ml_vector_lists refuse other calls.
DELIMITER //
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql_ml.vector_candidates(
    the_index INT UNSIGNED,
    query LONGBLOB,
    lists INT UNSIGNED,
    wanted INT UNSIGNED,
    least INT UNSIGNED,
    most INT UNSIGNED)
  RETURNS LONGTEXT CHARACTER SET utf8mb4 NOT DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER
  COMMENT 'mysql-ml: keys of rows that are probably near to a vector, and of changed rows'
  BEGIN
    DECLARE the_version, all_lists INT UNSIGNED;
    DECLARE others BIGINT UNSIGNED;
    DECLARE the_layout VARBINARY(255);
    DECLARE built VARCHAR(30) CHARACTER SET utf8mb4;
    DECLARE chosen, found, changed LONGTEXT CHARACTER SET utf8mb4;
    SELECT i.version, i.layout, i.lists, i.left_out, UNIX_TIMESTAMP(i.built_at)
      INTO the_version, the_layout, all_lists, others, built
      FROM mysql_ml.vector_indexes AS i WHERE i.index_id = the_index;
    SET chosen = ml_vector_choose(the_index, the_version, all_lists, built, the_layout, query, lists);
    IF chosen IS NULL THEN
      SELECT ml_vector_lists(the_index, the_layout, query, lists, l.list, l.centroid) INTO chosen
        FROM mysql_ml.vector_lists AS l WHERE l.index_id = the_index AND l.version = the_version;
    END IF;
    SELECT ml_vector_scan(the_layout, query, wanted, least, most, l.centroid, b.codes) INTO found
      FROM JSON_TABLE(chosen, '$[*]' COLUMNS (list INT UNSIGNED PATH '$')) AS c
      STRAIGHT_JOIN mysql_ml.vector_lists AS l
        ON l.index_id = the_index AND l.version = the_version AND l.list = c.list
      STRAIGHT_JOIN mysql_ml.vector_blocks AS b
        ON b.index_id = the_index AND b.version = the_version AND b.list = c.list;
    -- One more than a search takes.
    SELECT JSON_ARRAYAGG(HEX(c.row_key)) INTO changed
      FROM (
        SELECT row_key FROM mysql_ml.vector_changes
        WHERE index_id = the_index AND the_version IS NOT NULL LIMIT 20001) AS c;
    -- An index that is gone has no lists.
    RETURN CONCAT(
      '{"version":', IFNULL(the_version, 0), ',"lists":', IFNULL(all_lists, 0), ',"left_out":', IFNULL(others, 0),
      ',"candidates":', found, ',"changed":', IFNULL(changed, '[]'), '}');
  END//
DELIMITER ;

-- The vector indexes of tables that the session's account can see.
CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY INVOKER VIEW ai.vector_indexes AS
  SELECT v.* FROM JSON_TABLE(CAST(ai_vector_indexes() AS JSON), '$[*]' COLUMNS (
    table_name VARCHAR(300) CHARACTER SET utf8mb4 PATH '$.table_name',
    column_name VARCHAR(64) CHARACTER SET utf8mb4 PATH '$.column_name',
    distance_measure VARCHAR(16) CHARACTER SET utf8mb4 PATH '$.distance_measure',
    status VARCHAR(16) CHARACTER SET utf8mb4 PATH '$.status',
    `rows` BIGINT UNSIGNED PATH '$.rows',
    codes BIGINT UNSIGNED PATH '$.codes',
    changes BIGINT UNSIGNED PATH '$.changes',
    lists BIGINT UNSIGNED PATH '$.lists',
    bits INT UNSIGNED PATH '$.bits',
    bytes BIGINT UNSIGNED PATH '$.bytes',
    left_out BIGINT UNSIGNED PATH '$.left_out',
    recall DOUBLE PATH '$.recall',
    definer VARCHAR(288) CHARACTER SET utf8mb4 PATH '$.definer',
    note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS v;

-- The chunk tables that the session's account can see, and rows that could not be cut.
CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY INVOKER VIEW ai.chunk_tables AS
  SELECT c.* FROM JSON_TABLE(CAST(ai_chunk_tables() AS JSON), '$[*]' COLUMNS (
    source_table VARCHAR(300) CHARACTER SET utf8mb4 PATH '$.source_table',
    text_column VARCHAR(64) CHARACTER SET utf8mb4 PATH '$.text_column',
    chunk_table VARCHAR(300) CHARACTER SET utf8mb4 PATH '$.chunk_table',
    status VARCHAR(16) CHARACTER SET utf8mb4 PATH '$.status',
    estimated_chunks BIGINT UNSIGNED PATH '$.estimated_chunks',
    changes BIGINT UNSIGNED PATH '$.changes',
    failed BIGINT UNSIGNED PATH '$.failed',
    options TEXT CHARACTER SET utf8mb4 PATH '$.options',
    embedding_column VARCHAR(64) CHARACTER SET utf8mb4 PATH '$.embedding_column',
    definer VARCHAR(288) CHARACTER SET utf8mb4 PATH '$.definer',
    last_error TEXT CHARACTER SET utf8mb4 PATH '$.last_error',
    note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS c;

CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY INVOKER VIEW ai.chunk_failures AS
  SELECT f.* FROM JSON_TABLE(CAST(ai_chunk_tables() AS JSON), '$[*]' COLUMNS (
    chunk_table VARCHAR(300) CHARACTER SET utf8mb4 PATH '$.chunk_table',
    NESTED PATH '$.failures[*]' COLUMNS (
      row_key TEXT CHARACTER SET utf8mb4 PATH '$.row_key',
      reason TEXT CHARACTER SET utf8mb4 PATH '$.reason',
      tries INT UNSIGNED PATH '$.tries',
      failed_at VARCHAR(32) CHARACTER SET utf8mb4 PATH '$.failed_at'))) AS f
  WHERE f.row_key IS NOT NULL;

-- The vector indexes as Cloud SQL lists them, of tables that the session's account can see. A server's own table or view of
-- that name stays.
SET @mysql_ml_own_view = NOT EXISTS (
  SELECT * FROM information_schema.TABLES AS t
    LEFT JOIN information_schema.VIEWS AS v ON v.TABLE_SCHEMA = t.TABLE_SCHEMA AND v.TABLE_NAME = t.TABLE_NAME
  WHERE t.TABLE_SCHEMA = 'mysql' AND t.TABLE_NAME = 'vector_indexes'
    AND (v.DEFINER IS NULL OR v.DEFINER <> 'mysql_ml@localhost'));
SET @mysql_ml_view = IF(
  @mysql_ml_own_view,
  'CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY INVOKER VIEW mysql.vector_indexes AS
     SELECT v.* FROM JSON_TABLE(mysql.ml_list_vector_indexes(), ''$[*]'' COLUMNS (
       index_name VARCHAR(130) CHARACTER SET utf8mb4 PATH ''$.index_name'',
       table_name VARCHAR(130) CHARACTER SET utf8mb4 PATH ''$.table_name'',
       column_name VARCHAR(64) CHARACTER SET utf8mb4 PATH ''$.column_name'',
       index_type VARCHAR(16) CHARACTER SET utf8mb4 PATH ''$.index_type'',
       dimension INT UNSIGNED PATH ''$.dimensions'',
       distance_measure VARCHAR(16) CHARACTER SET utf8mb4 PATH ''$.distance_measure'',
       num_partitions BIGINT UNSIGNED PATH ''$.lists'',
       status VARCHAR(16) CHARACTER SET utf8mb4 PATH ''$.status'',
       note TEXT CHARACTER SET utf8mb4 PATH ''$.note'')) AS v',
  'DO 0');
PREPARE mysql_ml_view FROM @mysql_ml_view;
EXECUTE mysql_ml_view;
DEALLOCATE PREPARE mysql_ml_view;

-- The columns of tables that the session's account can see.
CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY INVOKER VIEW ai.embedding_progress_view AS
  SELECT
    p.table_name, p.content_column, p.embedding_column, p.model_id, p.percent_progress, p.status,
    SEC_TO_TIME(p.seconds) AS elapsed_time, p.rows_processed, CAST(NULL AS CHAR(64)) AS partition_root,
    p.incremental_refresh_mode, p.last_error, p.note
  FROM JSON_TABLE(CAST(ml_embedding_progress() AS JSON), '$[*]' COLUMNS (
    table_name VARCHAR(300) CHARACTER SET utf8mb4 PATH '$.table_name',
    content_column TEXT CHARACTER SET utf8mb4 PATH '$.content_column',
    embedding_column VARCHAR(64) CHARACTER SET utf8mb4 PATH '$.embedding_column',
    model_id VARCHAR(100) CHARACTER SET utf8mb4 PATH '$.model_id',
    percent_progress DECIMAL(4, 1) PATH '$.percent_progress',
    status VARCHAR(16) CHARACTER SET utf8mb4 PATH '$.status',
    seconds DOUBLE PATH '$.elapsed_time',
    rows_processed BIGINT UNSIGNED PATH '$.rows_processed',
    incremental_refresh_mode VARCHAR(16) CHARACTER SET utf8mb4 PATH '$.incremental_refresh_mode',
    last_error TEXT CHARACTER SET utf8mb4 PATH '$.last_error',
    note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS p;

SET SESSION sql_mode = @mysql_ml_sql_mode;

-- Generated: rights of ml_user in schema ai
GRANT EXECUTE ON FUNCTION ai.generate TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.if TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.rank TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.classify TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.extract TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.summarize TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.analyze_sentiment TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.translate TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.generate_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.if_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.rank_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.classify_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.extract_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.summarize_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.analyze_sentiment_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.translate_batch TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.generate_table TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.query TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.embedding TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.rerank TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.similarity TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.count_tokens TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.chunk TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.explain_request TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.initialize_embeddings TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.refresh_embeddings TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.drop_embedding_config TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.create_vector_index TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.rebuild_vector_index TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.refresh_vector_index TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.drop_vector_index TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.check_vector_index TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.create_chunks TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.refresh_chunks TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.drop_chunks TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.search TO `ml_user`;
GRANT EXECUTE ON PROCEDURE ai.answer TO `ml_user`;
GRANT EXECUTE ON FUNCTION ai.vector_candidates TO `ml_user`;
-- End of rights of ml_user in schema ai
GRANT SELECT ON ai.embedding_progress_view TO `ml_user`;
GRANT SELECT ON ai.vector_indexes TO `ml_user`;
GRANT SELECT ON ai.chunk_tables TO `ml_user`;
GRANT SELECT ON ai.chunk_failures TO `ml_user`;
SET @mysql_ml_grant = IF(@mysql_ml_own_view, 'GRANT SELECT ON mysql.vector_indexes TO `ml_user`', 'DO 0');
PREPARE mysql_ml_grant FROM @mysql_ml_grant;
EXECUTE mysql_ml_grant;
DEALLOCATE PREPARE mysql_ml_grant;
GRANT EXECUTE ON FUNCTION mysql_ml.vector_candidates TO `ml_user`, `mysql_ml`@`localhost`;

SELECT 'the schema ai is installed' AS message;
