-- Installs mysql-ml into a MySQL 9.7 server. Run as an administrator, as often as you like:
--   mysql < install.sql
-- The library mysql_ml.so must be in the server's plugin directory (SELECT @@plugin_dir) before.
--
-- Registrations and privileges on the routines are kept. No function is dropped: MySQL 9.7 may crash where a loadable
-- function is dropped while a session calls it. A new version of the library takes a restart.
--
--   1. the server           4. tables               7. routines
--   2. mysql.func           5. upgrade of tables    8. rights
--   3. loadable functions   6. rights of the owner
--
-- What stands between "Generated" and "End of" is written by `cargo xtask sql`. Change crates/surface in place of it.

-- Do not wait long for a call in progress: all others would wait behind this.
SET SESSION lock_wait_timeout = 10;

-- 1. The server. One that cannot work is refused before anything is made.

DROP PROCEDURE IF EXISTS mysql.ml_install_refuse_server;
CREATE PROCEDURE mysql.ml_install_refuse_server()
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT =
    'mysql-ml: this server is not supported; MySQL 9.7 is needed (SELECT VERSION() tells what this is)';
SET @mysql_ml_check = IF(
  VERSION() LIKE '9.7.%' AND VERSION() NOT LIKE '%MariaDB%',
  'DO 0',
  'CALL mysql.ml_install_refuse_server()');
PREPARE mysql_ml_check FROM @mysql_ml_check;
EXECUTE mysql_ml_check;
DEALLOCATE PREPARE mysql_ml_check;
DROP PROCEDURE mysql.ml_install_refuse_server;

-- 2. mysql.func. A restored dump may have left rows of functions that are not loaded, which could not be created again. It
-- may also lack rows of loaded functions, which would be gone after a restart. See docs/backup.md.

DELETE FROM mysql.func
  WHERE @@performance_schema AND dl = 'mysql_ml.so'
    AND name NOT IN (SELECT UDF_NAME FROM performance_schema.user_defined_functions);
INSERT INTO mysql.func (name, ret, dl, type)
  SELECT UDF_NAME, IF(UDF_RETURN_TYPE = 'double', 1, 0), UDF_LIBRARY, UDF_TYPE
  FROM performance_schema.user_defined_functions
  WHERE UDF_LIBRARY = 'mysql_ml.so' AND UDF_NAME NOT IN (SELECT name FROM mysql.func);

-- 3. Loadable functions. One that has the name of a stored function has a second name, by which that calls it.
-- "Can't open shared library" here means that mysql_ml.so is not in the directory that the message names.

-- Generated: loadable functions
CREATE FUNCTION IF NOT EXISTS ml_version RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_version RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_query_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_query_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_embedding_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_embedding_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE AGGREGATE FUNCTION IF NOT EXISTS ml_embedding_agg RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_image_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_image_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_generate RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_generate RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_predict_row RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_predict_row RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_generate RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_if RETURNS INTEGER SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_rank RETURNS REAL SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_classify RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_extract RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_summarize RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_analyze_sentiment RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_translate RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_generate_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_if_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_rank_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_classify_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_extract_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_summarize_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_analyze_sentiment_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_translate_batch RETURNS STRING SONAME 'mysql_ml.so';
CREATE AGGREGATE FUNCTION IF NOT EXISTS ai_agg RETURNS STRING SONAME 'mysql_ml.so';
CREATE AGGREGATE FUNCTION IF NOT EXISTS ai_agg_summarize RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_generate_table RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_query RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_query_end RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_embedding RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_rerank RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_similarity RETURNS REAL SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_count_tokens RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_chunk RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_explain_request RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_list_registered_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_list_registered_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_list_settings RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_list_settings RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_embed_table RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_initialize_embeddings RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_refresh_embeddings RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_drop_embedding_config RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_embedding_progress RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_create_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_rebuild_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_refresh_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_drop_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_check_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_create_chunks RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_refresh_chunks RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_drop_chunks RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_chunk_tables RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_vector_indexes RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_create_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_alter_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_drop_vector_index RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_vector_choose RETURNS STRING SONAME 'mysql_ml.so';
CREATE AGGREGATE FUNCTION IF NOT EXISTS ml_vector_lists RETURNS STRING SONAME 'mysql_ml.so';
CREATE AGGREGATE FUNCTION IF NOT EXISTS ml_vector_scan RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_search_begin RETURNS INTEGER SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_answer_begin RETURNS INTEGER SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_answer RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_search_next RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_search_end RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_vector_search_status RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_vector_candidates RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ai_vector_candidate_keys RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_model_qualified_name_of RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_model_qualified_name_of RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_generate_model_request_url RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_generate_model_request_url RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_validate_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_validate_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_status RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_status RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_reset_status RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_cache_clear RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_load_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_unload_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_fetch_model RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_audit_secrets RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_ml_audit_secrets RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_list_model_providers RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_create_model_registration RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_alter_model_registration RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_drop_model_registration RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_set_model_options RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_create_sm_secret_registration RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_alter_sm_secret_registration RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_drop_sm_secret_registration RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_create_secret RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_alter_secret RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_set_secret_options RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS ml_set_setting RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS cosine_distance RETURNS REAL SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS l2_squared_distance RETURNS REAL SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS dot_product RETURNS REAL SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_create_function RETURNS STRING SONAME 'mysql_ml.so';
CREATE FUNCTION IF NOT EXISTS mysql_ml_so_drop_procedure RETURNS STRING SONAME 'mysql_ml.so';
-- End of loadable functions

-- An error here names what the library needs and the server lacks.
DO ml_version();

-- A server's own function of one of these names is used in its place: CREATE FUNCTION would be an error (4101).
-- Generated: loadable functions that the server may have
DO mysql_ml_so_create_function('vector_distance'); -- CREATE FUNCTION IF NOT EXISTS vector_distance RETURNS REAL SONAME 'mysql_ml.so'
DO mysql_ml_so_create_function('distance'); -- CREATE FUNCTION IF NOT EXISTS distance RETURNS REAL SONAME 'mysql_ml.so'
DO mysql_ml_so_create_function('approx_distance'); -- CREATE FUNCTION IF NOT EXISTS approx_distance RETURNS REAL SONAME 'mysql_ml.so'
-- End of loadable functions that the server may have

-- The account that owns the tables and routines. It is locked, and no password has the hash that it is given.
CREATE USER IF NOT EXISTS `mysql_ml`@`localhost`
  IDENTIFIED WITH caching_sha2_password
    AS '$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED'
  ACCOUNT LOCK PASSWORD EXPIRE NEVER
  COMMENT 'owns the tables and routines of mysql-ml; locked';

-- 4. Tables: first the registry.

CREATE TABLE IF NOT EXISTS mysql.cloudsql_ml_models (
  model_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  model_request_url VARCHAR(2048) NULL,
  model_provider VARCHAR(64) NOT NULL,
  model_type VARCHAR(64) NOT NULL,
  model_qualified_name VARCHAR(255) NULL,
  model_auth_type VARCHAR(64) NULL,
  model_auth_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  header_gen_fn VARCHAR(255) NULL,
  input_transform_fn TEXT NULL,
  output_transform_fn TEXT NULL,
  options JSON NULL,
  definer VARCHAR(288) NOT NULL COMMENT 'the account the functions of the model run as',
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY model_auth_id (model_auth_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: registered models';

CREATE TABLE IF NOT EXISTS mysql.cloudsql_ml_secrets (
  secret_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  secret_path VARCHAR(512) NOT NULL COMMENT 'where the key is found, never the key',
  options JSON NULL,
  definer VARCHAR(288) NOT NULL,
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: registered secrets';

CREATE TABLE IF NOT EXISTS mysql.cloudsql_ml_settings (
  name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  value VARCHAR(4096) NOT NULL,
  CONSTRAINT cloudsql_ml_settings_name CHECK (name <> '')
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: settings that differ from their default';
-- The names that this version knows, also in a table that an earlier one made.
-- Generated: names of settings
ALTER TABLE mysql.cloudsql_ml_settings
  DROP CONSTRAINT cloudsql_ml_settings_name,
  ADD CONSTRAINT cloudsql_ml_settings_name CHECK (name IN (
    'timeout_ms',
    'connect_timeout_ms',
    'max_retries',
    'max_response_mb',
    'registry_ttl_ms',
    'cache_memory_mb',
    'cache_disk_mb',
    'call_memory_mb',
    'egress_allowlist',
    'proxy',
    'ca_file',
    'google_project',
    'google_location',
    'secret_ttl_ms',
    'local_memory_mb',
    'local_threads',
    'huggingface_host',
    'default_llm',
    'default_embedding_model',
    'default_reranker',
    'on_error'));
-- End of names of settings

-- Progress and failed rows of ml_embed_table.
CREATE TABLE IF NOT EXISTS mysql.cloudsql_ml_embed_progress (
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  embedding_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  account VARCHAR(288) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'whose job it was',
  model_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  status VARCHAR(16) NOT NULL COMMENT 'running, finished, stopped or failed',
  embedded BIGINT UNSIGNED NOT NULL,
  failed BIGINT UNSIGNED NOT NULL,
  skipped BIGINT UNSIGNED NOT NULL COMMENT 'rows that changed while they were embedded',
  message TEXT NULL,
  started_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (table_schema, table_name, embedding_column, account)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: the last ml_embed_table of each column and account';

CREATE TABLE IF NOT EXISTS mysql.cloudsql_ml_embed_failures (
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  embedding_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  account VARCHAR(288) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'whose job it was',
  row_key_hash BINARY(32) NOT NULL,
  row_key JSON NOT NULL,
  error TEXT NOT NULL,
  tries INT UNSIGNED NOT NULL DEFAULT 1,
  failed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (table_schema, table_name, embedding_column, account, row_key_hash)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: rows that ml_embed_table could not embed';

-- Columns that are kept embedded. install-ai.sql makes the routines for them.
CREATE TABLE IF NOT EXISTS mysql.cloudsql_ml_embed_configs (
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  embedding_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  content_column TEXT NOT NULL COMMENT 'a column or an expression',
  model_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  batch_size INT UNSIGNED NULL,
  incremental_refresh_mode VARCHAR(16) NOT NULL COMMENT 'manual or transactional',
  definer VARCHAR(288) NOT NULL COMMENT 'the account that initialized it, as which all of it runs',
  object_name VARCHAR(64) NOT NULL COMMENT 'of its trigger and event',
  session_variables JSON NULL COMMENT 'of the session that initialized it, as far as they decide what content_column means',
  rows_to_embed BIGINT UNSIGNED NULL COMMENT 'when somebody last asked for them',
  last_error TEXT NULL COMMENT 'of the event',
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (table_schema, table_name, embedding_column)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: columns that are kept embedded';

-- 5. Upgrade of tables that an earlier version made.

SET @mysql_ml_upgrade = IF(
  EXISTS (
    SELECT * FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'cloudsql_ml_embed_progress' AND COLUMN_NAME = 'account'),
  'DO 0',
  'ALTER TABLE mysql.cloudsql_ml_embed_progress
     ADD COLUMN account VARCHAR(288) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
       COMMENT ''whose job it was'' AFTER embedding_column,
     DROP PRIMARY KEY,
     ADD PRIMARY KEY (table_schema, table_name, embedding_column, account)');
PREPARE mysql_ml_upgrade FROM @mysql_ml_upgrade;
EXECUTE mysql_ml_upgrade;
SET @mysql_ml_upgrade = IF(
  EXISTS (
    SELECT * FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'cloudsql_ml_embed_failures' AND COLUMN_NAME = 'account'),
  'DO 0',
  'ALTER TABLE mysql.cloudsql_ml_embed_failures
     ADD COLUMN account VARCHAR(288) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
       COMMENT ''whose job it was'' AFTER embedding_column,
     DROP PRIMARY KEY,
     ADD PRIMARY KEY (table_schema, table_name, embedding_column, account, row_key_hash)');
PREPARE mysql_ml_upgrade FROM @mysql_ml_upgrade;
EXECUTE mysql_ml_upgrade;
SET @mysql_ml_upgrade = IF(
  EXISTS (
    SELECT * FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'cloudsql_ml_embed_configs' AND COLUMN_NAME = 'object_name'),
  'DO 0',
  'ALTER TABLE mysql.cloudsql_ml_embed_configs
     ADD COLUMN object_name VARCHAR(64) NOT NULL DEFAULT ''''
       COMMENT ''of its trigger and event'' AFTER definer');
PREPARE mysql_ml_upgrade FROM @mysql_ml_upgrade;
EXECUTE mysql_ml_upgrade;
SET @mysql_ml_upgrade = IF(
  EXISTS (
    SELECT * FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'cloudsql_ml_embed_configs' AND COLUMN_NAME = 'session_variables'),
  'DO 0',
  'ALTER TABLE mysql.cloudsql_ml_embed_configs
     ADD COLUMN session_variables JSON NULL
       COMMENT ''of the session that initialized it, as far as they decide what content_column means''
       AFTER object_name');
PREPARE mysql_ml_upgrade FROM @mysql_ml_upgrade;
EXECUTE mysql_ml_upgrade;
DEALLOCATE PREPARE mysql_ml_upgrade;
-- Notes of jobs whose account was not kept are nobody's.
DELETE FROM mysql.cloudsql_ml_embed_progress WHERE account = '';
DELETE FROM mysql.cloudsql_ml_embed_failures WHERE account = '';
-- The names that the earlier version gave to triggers and events.
UPDATE mysql.cloudsql_ml_embed_configs
  SET object_name = CONCAT(
    'ml_embeddings_',
    LEFT(SHA2(CONCAT(LOWER(table_name), CHAR(0), LOWER(embedding_column)), 256), 16))
  WHERE object_name = '';

-- 6. Rights of the owner on tables. The first tells whether this server is a source: only a source embeds columns.

GRANT SELECT ON performance_schema.replication_connection_configuration TO `mysql_ml`@`localhost`;
GRANT SELECT, INSERT, UPDATE, DELETE ON mysql.cloudsql_ml_embed_configs TO `mysql_ml`@`localhost`;
GRANT SELECT, INSERT, UPDATE, DELETE ON mysql.cloudsql_ml_embed_progress TO `mysql_ml`@`localhost`;
GRANT SELECT, INSERT, UPDATE, DELETE ON mysql.cloudsql_ml_embed_failures TO `mysql_ml`@`localhost`;
GRANT SELECT, INSERT, UPDATE, DELETE ON mysql.cloudsql_ml_models TO `mysql_ml`@`localhost`;
GRANT SELECT, INSERT, UPDATE, DELETE ON mysql.cloudsql_ml_secrets TO `mysql_ml`@`localhost`;
GRANT SELECT, INSERT, UPDATE, DELETE ON mysql.cloudsql_ml_settings TO `mysql_ml`@`localhost`;

-- 7. Routines in schema mysql: EXECUTE is granted on these. Their text must not depend on the session's mode.

SET
  @mysql_ml_sql_mode = @@SESSION.sql_mode,
  SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO';

-- A caller needs EXECUTE on the function and no right on the registry: the library asks the server for the one and reads
-- the other itself. Calls run as the caller (SQL SECURITY INVOKER), who sees them in the processlist and can KILL them.
-- Generated: routines of schema mysql
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_version()
  RETURNS VARCHAR(32) CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY DEFINER
  COMMENT 'mysql-ml: version of the library'
  RETURN mysql_ml_so_ml_version();

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_embedding(
    model_id TEXT CHARACTER SET utf8mb4,
    content LONGTEXT CHARACTER SET utf8mb4)
  RETURNS VECTOR(16383) DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the embedding of a text as a VECTOR'
  RETURN mysql_ml_so_ml_embedding(model_id, content);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_query_embedding(
    model_id TEXT CHARACTER SET utf8mb4,
    content LONGTEXT CHARACTER SET utf8mb4)
  RETURNS VECTOR(16383) DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the embedding of a text that is searched for, as a VECTOR'
  RETURN mysql_ml_so_ml_query_embedding(model_id, content);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_embedding_batch(
    model_id TEXT CHARACTER SET utf8mb4,
    contents JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the embeddings of an array of texts, as an array of base64 strings'
  RETURN mysql_ml_so_ml_embedding_batch(model_id, contents);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_image_embedding(
    model_id TEXT CHARACTER SET utf8mb4,
    image LONGBLOB,
    mime_type TEXT CHARACTER SET utf8mb4)
  RETURNS VECTOR(16383) DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the embedding of an image as a VECTOR'
  RETURN mysql_ml_so_ml_image_embedding(model_id, image, mime_type);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_generate(
    model_id TEXT CHARACTER SET utf8mb4,
    prompt LONGTEXT CHARACTER SET utf8mb4,
    options JSON)
  RETURNS LONGTEXT CHARACTER SET utf8mb4 DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the answer of a model to a prompt'
  RETURN mysql_ml_so_ml_generate(model_id, prompt, options);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_predict_row(
    model_id TEXT CHARACTER SET utf8mb4,
    request_body JSON)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the answer of a model to a JSON request'
  RETURN mysql_ml_so_ml_predict_row(model_id, request_body);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_list_registered_model(
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS JSON NOT DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER
  COMMENT 'mysql-ml: a registration as JSON'
  RETURN mysql_ml_so_ml_list_registered_model(model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_list_settings()
  RETURNS JSON NOT DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER
  COMMENT 'mysql-ml: all settings as JSON'
  RETURN mysql_ml_so_ml_list_settings();

-- Embeds a table, with the caller's rights on it.
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_embed_table(
    model_id TEXT CHARACTER SET utf8mb4,
    table_name TEXT CHARACTER SET utf8mb4,
    content_column TEXT CHARACTER SET utf8mb4,
    embedding_column TEXT CHARACTER SET utf8mb4,
    options JSON)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: embeds the rows of a table that lack a vector'
  SELECT r.* FROM JSON_TABLE(
    CAST(ml_embed_table(model_id, table_name, content_column, embedding_column, options) AS JSON),
    '$' COLUMNS (
      embedded BIGINT UNSIGNED PATH '$.embedded',
      failed BIGINT UNSIGNED PATH '$.failed',
      skipped BIGINT UNSIGNED PATH '$.skipped',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

-- The view mysql.vector_indexes calls it: in schema mysql a view of a loadable function cannot be restored.
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_list_vector_indexes()
  RETURNS JSON NOT DETERMINISTIC READS SQL DATA SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the vector indexes of tables that the caller can see, as an array'
  RETURN ai_vector_indexes();

-- Vector indexes by Cloud SQL's names. install-ai.sql makes their tables.
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.create_vector_index(
    index_name TEXT CHARACTER SET utf8mb4,
    table_name TEXT CHARACTER SET utf8mb4,
    column_name TEXT CHARACTER SET utf8mb4,
    options TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: creates a vector index with a name, as Cloud SQL does'
  SELECT r.* FROM JSON_TABLE(
    CAST(ml_create_vector_index(index_name, table_name, column_name, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      left_out BIGINT UNSIGNED PATH '$.left_out',
      lists BIGINT UNSIGNED PATH '$.lists',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.alter_vector_index(
    index_name TEXT CHARACTER SET utf8mb4,
    options TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: builds a vector index with a name again, with other options'
  SELECT r.* FROM JSON_TABLE(
    CAST(ml_alter_vector_index(index_name, options) AS JSON),
    '$' COLUMNS (
      `rows` BIGINT UNSIGNED PATH '$.rows',
      left_out BIGINT UNSIGNED PATH '$.left_out',
      lists BIGINT UNSIGNED PATH '$.lists',
      seconds DOUBLE PATH '$.seconds',
      note TEXT CHARACTER SET utf8mb4 PATH '$.note')) AS r;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.drop_vector_index(
    index_name TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: removes a vector index by its name'
  DO ml_drop_vector_index(index_name);

-- Information about models: as the caller too, whose rights the library asks for.
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_model_qualified_name_of(
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS VARCHAR(255) CHARACTER SET utf8mb4 NOT DETERMINISTIC READS SQL DATA SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the name the provider knows a model by'
  RETURN mysql_ml_so_ml_model_qualified_name_of(model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_generate_model_request_url(
    model_provider TEXT CHARACTER SET utf8mb4,
    model_type TEXT CHARACTER SET utf8mb4,
    model_qualified_name TEXT CHARACTER SET utf8mb4,
    model_region TEXT CHARACTER SET utf8mb4)
  RETURNS TEXT CHARACTER SET utf8mb4 NOT DETERMINISTIC READS SQL DATA SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the URL of a model that is registered without one'
  RETURN mysql_ml_so_ml_generate_model_request_url(model_provider, model_type, model_qualified_name, model_region);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_validate_model(
    model_id TEXT CHARACTER SET utf8mb4)
  RETURNS JSON NOT DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: sends one small request and returns its outcome'
  RETURN mysql_ml_so_ml_validate_model(model_id);

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_status()
  RETURNS JSON NOT DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: counters of each model'
  RETURN mysql_ml_so_ml_status();

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_reset_status()
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: counts from zero'
  DO ml_reset_status();

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_cache_clear(
    model_id TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: removes the embeddings of a model from the caches; NULL: of all'
  SELECT CAST(ml_cache_clear(model_id) AS UNSIGNED) AS removed;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_load_model(
    model_id TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: loads a model inside the server'
  SELECT CAST(ml_load_model(model_id) AS JSON) AS loaded;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_unload_model(
    model_id TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: takes a model inside the server out of memory'
  SELECT CAST(ml_unload_model(model_id) AS UNSIGNED) AS unloaded;

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_fetch_model(
    model_id TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: fetches the files of a model inside the server'
  SELECT CAST(ml_fetch_model(model_id) AS JSON) AS fetched;

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_audit_secrets()
  RETURNS JSON NOT DETERMINISTIC READS SQL DATA SQL SECURITY INVOKER
  COMMENT 'mysql-ml: places in registrations that appear to hold a key'
  RETURN mysql_ml_so_ml_audit_secrets();

-- Registration runs as the caller, so that the library knows whose functions a model may use. The library
-- asks the server whether the caller may execute the procedure, also when the loadable function is called.
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_create_model_registration(
    model_id TEXT CHARACTER SET utf8mb4,
    model_request_url TEXT CHARACTER SET utf8mb4,
    model_provider TEXT CHARACTER SET utf8mb4,
    model_type TEXT CHARACTER SET utf8mb4,
    model_qualified_name TEXT CHARACTER SET utf8mb4,
    model_auth_type TEXT CHARACTER SET utf8mb4,
    model_auth_id TEXT CHARACTER SET utf8mb4,
    header_or_input_fn TEXT CHARACTER SET utf8mb4,
    input_or_output_fn TEXT CHARACTER SET utf8mb4,
    output_or_header_fn TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: registers a model'
  DO ml_create_model_registration(
    model_id, model_request_url,
    model_provider, model_type,
    model_qualified_name, model_auth_type,
    model_auth_id, header_or_input_fn,
    input_or_output_fn, output_or_header_fn);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_alter_model_registration(
    model_id TEXT CHARACTER SET utf8mb4,
    model_request_url TEXT CHARACTER SET utf8mb4,
    model_provider TEXT CHARACTER SET utf8mb4,
    model_type TEXT CHARACTER SET utf8mb4,
    model_qualified_name TEXT CHARACTER SET utf8mb4,
    model_auth_type TEXT CHARACTER SET utf8mb4,
    model_auth_id TEXT CHARACTER SET utf8mb4,
    header_or_input_fn TEXT CHARACTER SET utf8mb4,
    input_or_output_fn TEXT CHARACTER SET utf8mb4,
    output_or_header_fn TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: changes a model; NULL keeps, an empty text clears'
  DO ml_alter_model_registration(
    model_id, model_request_url,
    model_provider, model_type,
    model_qualified_name, model_auth_type,
    model_auth_id, header_or_input_fn,
    input_or_output_fn, output_or_header_fn);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_drop_model_registration(
    model_id TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: deletes a model registration'
  DO ml_drop_model_registration(model_id);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_set_model_options(
    model_id TEXT CHARACTER SET utf8mb4,
    options LONGTEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: patches the options of a model'
  DO ml_set_model_options(model_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_create_sm_secret_registration(
    secret_id TEXT CHARACTER SET utf8mb4,
    secret_path TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: registers where a secret is found'
  DO ml_create_sm_secret_registration(secret_id, secret_path);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_alter_sm_secret_registration(
    secret_id TEXT CHARACTER SET utf8mb4,
    secret_path TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: changes where a secret is found'
  DO ml_alter_sm_secret_registration(secret_id, secret_path);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_drop_sm_secret_registration(
    secret_id TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: deletes a secret registration'
  DO ml_drop_sm_secret_registration(secret_id);

-- SET of a parameter and not DO, which would be a statement of its own, one more that could be recorded
-- with the key in it. The parameter is binary: the server's error for invalid UTF-8 quotes the text.
CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_create_secret(
    secret_id TEXT CHARACTER SET utf8mb4,
    value LONGBLOB)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: stores a key in the keyring and registers it'
  SET secret_id = ml_create_secret(secret_id, value);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_alter_secret(
    secret_id TEXT CHARACTER SET utf8mb4,
    value LONGBLOB)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: replaces a key in the keyring'
  SET secret_id = ml_alter_secret(secret_id, value);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_set_secret_options(
    secret_id TEXT CHARACTER SET utf8mb4,
    options LONGTEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: patches the options of a secret'
  DO ml_set_secret_options(secret_id, options);

CREATE DEFINER = `mysql_ml`@`localhost` PROCEDURE IF NOT EXISTS mysql.ml_set_setting(
    name TEXT CHARACTER SET utf8mb4,
    value TEXT CHARACTER SET utf8mb4)
  SQL SECURITY INVOKER
  COMMENT 'mysql-ml: sets a setting; NULL restores the default'
  DO ml_set_setting(name, value);

-- The built-in transforms of Cloud SQL and the header function of AlloyDB. A registration that names them
-- does not call them: the library speaks those APIs itself. They are here to be read, called and copied.
CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.cloudsql_ml_text_embedding_input_transform(
    model_id VARCHAR(100) CHARACTER SET utf8mb4,
    input_text LONGTEXT CHARACTER SET utf8mb4)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the request of a Vertex AI text embedding'
  RETURN JSON_OBJECT('instances', JSON_ARRAY(JSON_OBJECT('content', input_text)));

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.cloudsql_ml_text_embedding_output_transform(
    model_id VARCHAR(100) CHARACTER SET utf8mb4,
    response_json JSON)
  RETURNS BLOB DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the vector in the answer of a Vertex AI text embedding'
  RETURN STRING_TO_VECTOR(CAST(JSON_EXTRACT(response_json, '$.predictions[0].embeddings.values') AS CHAR));

CREATE DEFINER = `mysql_ml`@`localhost` FUNCTION IF NOT EXISTS mysql.ml_anthropic_claude_header_gen_fn(
    model_id VARCHAR(100) CHARACTER SET utf8mb4,
    input_text LONGTEXT CHARACTER SET utf8mb4)
  RETURNS JSON DETERMINISTIC NO SQL SQL SECURITY INVOKER
  COMMENT 'mysql-ml: the headers of the Anthropic API besides the key, which the library adds'
  RETURN JSON_OBJECT('anthropic-version', '2023-06-01');
-- End of routines of schema mysql

-- The view holds what the function returns now. A view that calls it could not be restored where the library is missing.
SET @mysql_ml_view = CONCAT(
  'CREATE OR REPLACE DEFINER = `mysql_ml`@`localhost` SQL SECURITY DEFINER VIEW mysql.ml_model_providers AS
   SELECT p.provider, p.embedding, p.generate, p.rerank, p.image, p.options
   FROM JSON_TABLE(', QUOTE(ml_list_model_providers()), ', ''$[*]'' COLUMNS (
     provider VARCHAR(64) CHARACTER SET utf8mb4 PATH ''$.provider'',
     embedding TINYINT PATH ''$.embedding'',
     generate TINYINT PATH ''$.generate'',
     rerank TINYINT PATH ''$.rerank'',
     image TINYINT PATH ''$.image'',
     options VARCHAR(255) CHARACTER SET utf8mb4 PATH ''$.options'')) AS p');
PREPARE mysql_ml_view FROM @mysql_ml_view;
EXECUTE mysql_ml_view;
DEALLOCATE PREPARE mysql_ml_view;

SET SESSION sql_mode = @mysql_ml_sql_mode;

-- 8. Rights. A routine that runs as its definer needs the definer's own right to execute it.

-- Generated: rights of the owner
GRANT EXECUTE ON FUNCTION mysql.ml_version TO `mysql_ml`@`localhost`;
GRANT EXECUTE ON FUNCTION mysql.ml_list_registered_model TO `mysql_ml`@`localhost`;
GRANT EXECUTE ON FUNCTION mysql.ml_list_settings TO `mysql_ml`@`localhost`;
-- End of rights of the owner

-- Roles: ml_user may call models, ml_admin may also register them.
CREATE ROLE IF NOT EXISTS `ml_user`, `ml_admin`;

-- Generated: rights of ml_user
GRANT EXECUTE ON FUNCTION mysql.ml_version TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_embedding TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_query_embedding TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_embedding_batch TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_image_embedding TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_generate TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_predict_row TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_list_registered_model TO `ml_user`;
GRANT EXECUTE ON PROCEDURE mysql.ml_embed_table TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_list_vector_indexes TO `ml_user`;
SET @mysql_ml_grant = IF(
  EXISTS (
    SELECT * FROM information_schema.ROUTINES
    WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'create_vector_index' AND ROUTINE_COMMENT LIKE 'mysql-ml:%'),
  'GRANT EXECUTE ON PROCEDURE mysql.create_vector_index TO `ml_user`',
  'DO 0');
PREPARE mysql_ml_grant FROM @mysql_ml_grant;
EXECUTE mysql_ml_grant;
SET @mysql_ml_grant = IF(
  EXISTS (
    SELECT * FROM information_schema.ROUTINES
    WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'alter_vector_index' AND ROUTINE_COMMENT LIKE 'mysql-ml:%'),
  'GRANT EXECUTE ON PROCEDURE mysql.alter_vector_index TO `ml_user`',
  'DO 0');
PREPARE mysql_ml_grant FROM @mysql_ml_grant;
EXECUTE mysql_ml_grant;
SET @mysql_ml_grant = IF(
  EXISTS (
    SELECT * FROM information_schema.ROUTINES
    WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'drop_vector_index' AND ROUTINE_COMMENT LIKE 'mysql-ml:%'),
  'GRANT EXECUTE ON PROCEDURE mysql.drop_vector_index TO `ml_user`',
  'DO 0');
PREPARE mysql_ml_grant FROM @mysql_ml_grant;
EXECUTE mysql_ml_grant;
GRANT EXECUTE ON FUNCTION mysql.ml_model_qualified_name_of TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.cloudsql_ml_text_embedding_input_transform TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.cloudsql_ml_text_embedding_output_transform TO `ml_user`;
GRANT EXECUTE ON FUNCTION mysql.ml_anthropic_claude_header_gen_fn TO `ml_user`;
-- End of rights of ml_user
DEALLOCATE PREPARE mysql_ml_grant;
GRANT SELECT ON mysql.ml_model_providers TO `ml_user`;
-- A privilege on a table lets the role enter schema mysql; the server does not count a role's privileges on routines.
GRANT SELECT ON mysql.cloudsql_ml_models TO `ml_user`;

GRANT `ml_user` TO `ml_admin`;
-- Generated: rights of ml_admin
GRANT EXECUTE ON FUNCTION mysql.ml_list_settings TO `ml_admin`;
GRANT EXECUTE ON FUNCTION mysql.ml_generate_model_request_url TO `ml_admin`;
GRANT EXECUTE ON FUNCTION mysql.ml_validate_model TO `ml_admin`;
GRANT EXECUTE ON FUNCTION mysql.ml_status TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_reset_status TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_cache_clear TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_load_model TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_unload_model TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_fetch_model TO `ml_admin`;
GRANT EXECUTE ON FUNCTION mysql.ml_audit_secrets TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_create_model_registration TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_alter_model_registration TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_drop_model_registration TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_set_model_options TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_create_sm_secret_registration TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_alter_sm_secret_registration TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_drop_sm_secret_registration TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_create_secret TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_alter_secret TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_set_secret_options TO `ml_admin`;
GRANT EXECUTE ON PROCEDURE mysql.ml_set_setting TO `ml_admin`;
-- End of rights of ml_admin
GRANT SELECT ON mysql.cloudsql_ml_models TO `ml_admin`;
GRANT SELECT ON mysql.cloudsql_ml_secrets TO `ml_admin`;
GRANT SELECT ON mysql.cloudsql_ml_embed_configs TO `ml_admin`;
GRANT SELECT ON mysql.cloudsql_ml_embed_progress TO `ml_admin`;
GRANT SELECT ON mysql.cloudsql_ml_embed_failures TO `ml_admin`;
GRANT SELECT ON mysql.cloudsql_ml_settings TO `ml_admin`;

SELECT CONCAT('mysql-ml ', mysql.ml_version(), ' is installed') AS message;
