-- Removes mysql-ml from a server. Run as an administrator, as often as you like:
--   mysql < uninstall.sql
-- The tables with the registrations stay, so that install.sql finds them again. To drop them too:
--   (echo "SET @mysql_ml_drop_registrations = 1;"; cat uninstall.sql) | mysql

-- The roles and all privileges granted on the routines go too: to upgrade, run install.sql alone.

-- Do not wait long for a call in progress: all others would wait behind this.
SET SESSION lock_wait_timeout = 10;

-- Where the registrations go, the columns that are kept embedded lose their triggers and events. Otherwise those stay: the
-- triggers take the vector of a changed row away, and the events do nothing until install.sql is run again.
SET @mysql_ml_drop = IF(
  @mysql_ml_drop_registrations
    AND EXISTS (SELECT * FROM mysql.func WHERE name = 'ml_drop_embedding_config')
    AND EXISTS (
      SELECT * FROM information_schema.TABLES
      WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'cloudsql_ml_embed_configs'),
  'SELECT ml_drop_embedding_config(
     CONCAT(''`'', REPLACE(table_schema, ''`'', ''``''), ''`.`'', REPLACE(table_name, ''`'', ''``''), ''`''),
     embedding_column) AS dropped
   FROM mysql.cloudsql_ml_embed_configs',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;

-- Vector indexes: dropped with the registrations, else to be rebuilt, because no changes are recorded meanwhile.
SET @mysql_ml_indexes = EXISTS (
  SELECT * FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql_ml' AND TABLE_NAME = 'vector_indexes');
SET @mysql_ml_drop = IF(
  @mysql_ml_indexes AND @mysql_ml_drop_registrations
    AND EXISTS (SELECT * FROM mysql.func WHERE name = 'ai_drop_vector_index'),
  'SELECT ai_drop_vector_index(
     CONCAT(''`'', REPLACE(table_schema, ''`'', ''``''), ''`.`'', REPLACE(table_name, ''`'', ''``''), ''`''),
     CONCAT(''`'', REPLACE(column_name, ''`'', ''``''), ''`''),
     JSON_OBJECT(''distance_measure'', distance_measure)) AS dropped
   FROM mysql_ml.vector_indexes',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;
SET @mysql_ml_drop = IF(
  @mysql_ml_indexes,
  'UPDATE mysql_ml.vector_indexes SET stale = COALESCE(stale, ''the library was uninstalled'')',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;

-- Chunk tables: their triggers and events go with the registrations; else all rows are to be compared, because no changes are
-- recorded meanwhile.
SET
  @mysql_ml_chunks = EXISTS (
    SELECT * FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql_ml' AND TABLE_NAME = 'chunk_tables'),
  @mysql_ml_drop = IF(
    @mysql_ml_chunks AND @mysql_ml_drop_registrations
      AND EXISTS (SELECT * FROM mysql.func WHERE name = 'ai_drop_chunks'),
    'SELECT ai_drop_chunks(
       CONCAT(''`'', REPLACE(table_schema, ''`'', ''``''), ''`.`'', REPLACE(table_name, ''`'', ''``''), ''`'')) AS dropped
     FROM mysql_ml.chunk_tables',
    'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;
SET @mysql_ml_drop = IF(
  @mysql_ml_chunks, 'UPDATE mysql_ml.chunk_tables SET pass_due = TRUE, pass_position = NULL', 'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;
DROP FUNCTION IF EXISTS mysql_ml.vector_candidates;
SET @mysql_ml_drop = IF(@mysql_ml_drop_registrations, 'DROP SCHEMA IF EXISTS mysql_ml', 'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;

-- Generated: drops of routines of schema ai
DROP FUNCTION IF EXISTS ai.generate;
DROP FUNCTION IF EXISTS ai.if;
DROP FUNCTION IF EXISTS ai.rank;
DROP FUNCTION IF EXISTS ai.classify;
DROP FUNCTION IF EXISTS ai.extract;
DROP FUNCTION IF EXISTS ai.summarize;
DROP FUNCTION IF EXISTS ai.analyze_sentiment;
DROP FUNCTION IF EXISTS ai.translate;
DROP FUNCTION IF EXISTS ai.generate_batch;
DROP FUNCTION IF EXISTS ai.if_batch;
DROP FUNCTION IF EXISTS ai.rank_batch;
DROP FUNCTION IF EXISTS ai.classify_batch;
DROP FUNCTION IF EXISTS ai.extract_batch;
DROP FUNCTION IF EXISTS ai.summarize_batch;
DROP FUNCTION IF EXISTS ai.analyze_sentiment_batch;
DROP FUNCTION IF EXISTS ai.translate_batch;
DROP PROCEDURE IF EXISTS ai.generate_table;
DROP PROCEDURE IF EXISTS ai.query;
DROP FUNCTION IF EXISTS ai.embedding;
DROP FUNCTION IF EXISTS ai.rerank;
DROP FUNCTION IF EXISTS ai.similarity;
DROP FUNCTION IF EXISTS ai.count_tokens;
DROP FUNCTION IF EXISTS ai.chunk;
DROP FUNCTION IF EXISTS ai.explain_request;
DROP PROCEDURE IF EXISTS ai.initialize_embeddings;
DROP PROCEDURE IF EXISTS ai.refresh_embeddings;
DROP PROCEDURE IF EXISTS ai.drop_embedding_config;
DROP PROCEDURE IF EXISTS ai.create_vector_index;
DROP PROCEDURE IF EXISTS ai.rebuild_vector_index;
DROP PROCEDURE IF EXISTS ai.refresh_vector_index;
DROP PROCEDURE IF EXISTS ai.drop_vector_index;
DROP PROCEDURE IF EXISTS ai.check_vector_index;
DROP PROCEDURE IF EXISTS ai.create_chunks;
DROP PROCEDURE IF EXISTS ai.refresh_chunks;
DROP PROCEDURE IF EXISTS ai.drop_chunks;
DROP PROCEDURE IF EXISTS ai.search;
DROP PROCEDURE IF EXISTS ai.answer;
DROP FUNCTION IF EXISTS ai.vector_candidates;
-- End of drops of routines of schema ai
DROP VIEW IF EXISTS ai.embedding_progress_view, ai.vector_indexes, ai.chunk_tables, ai.chunk_failures;
-- The schema goes too, unless somebody else keeps something in it.
SET @mysql_ml_drop = IF(
  EXISTS (SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'ai')
    AND NOT EXISTS (SELECT * FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'ai')
    AND NOT EXISTS (SELECT * FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'ai')
    AND NOT EXISTS (SELECT * FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'ai'),
  'DROP SCHEMA ai',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;

-- Generated: drops of routines of schema mysql
DROP FUNCTION IF EXISTS mysql.ml_version;
DROP FUNCTION IF EXISTS mysql.ml_embedding;
DROP FUNCTION IF EXISTS mysql.ml_query_embedding;
DROP FUNCTION IF EXISTS mysql.ml_embedding_batch;
DROP FUNCTION IF EXISTS mysql.ml_image_embedding;
DROP FUNCTION IF EXISTS mysql.ml_generate;
DROP FUNCTION IF EXISTS mysql.ml_predict_row;
DROP FUNCTION IF EXISTS mysql.ml_list_registered_model;
DROP FUNCTION IF EXISTS mysql.ml_list_settings;
DROP PROCEDURE IF EXISTS mysql.ml_embed_table;
DROP FUNCTION IF EXISTS mysql.ml_list_vector_indexes;
DROP FUNCTION IF EXISTS mysql.ml_model_qualified_name_of;
DROP FUNCTION IF EXISTS mysql.ml_generate_model_request_url;
DROP FUNCTION IF EXISTS mysql.ml_validate_model;
DROP FUNCTION IF EXISTS mysql.ml_status;
DROP PROCEDURE IF EXISTS mysql.ml_reset_status;
DROP PROCEDURE IF EXISTS mysql.ml_cache_clear;
DROP PROCEDURE IF EXISTS mysql.ml_load_model;
DROP PROCEDURE IF EXISTS mysql.ml_unload_model;
DROP PROCEDURE IF EXISTS mysql.ml_fetch_model;
DROP FUNCTION IF EXISTS mysql.ml_audit_secrets;
DROP PROCEDURE IF EXISTS mysql.ml_create_model_registration;
DROP PROCEDURE IF EXISTS mysql.ml_alter_model_registration;
DROP PROCEDURE IF EXISTS mysql.ml_drop_model_registration;
DROP PROCEDURE IF EXISTS mysql.ml_set_model_options;
DROP PROCEDURE IF EXISTS mysql.ml_create_sm_secret_registration;
DROP PROCEDURE IF EXISTS mysql.ml_alter_sm_secret_registration;
DROP PROCEDURE IF EXISTS mysql.ml_drop_sm_secret_registration;
DROP PROCEDURE IF EXISTS mysql.ml_create_secret;
DROP PROCEDURE IF EXISTS mysql.ml_alter_secret;
DROP PROCEDURE IF EXISTS mysql.ml_set_secret_options;
DROP PROCEDURE IF EXISTS mysql.ml_set_setting;
DROP FUNCTION IF EXISTS mysql.cloudsql_ml_text_embedding_input_transform;
DROP FUNCTION IF EXISTS mysql.cloudsql_ml_text_embedding_output_transform;
DROP FUNCTION IF EXISTS mysql.ml_anthropic_claude_header_gen_fn;
-- End of drops of routines of schema mysql

-- A server's own procedures and its own table or view of these names stay. So do the library's procedures if it is not loaded.
-- Generated: drops of procedures that the server may have
SET @mysql_ml_drop = IF(
  EXISTS (SELECT * FROM performance_schema.user_defined_functions WHERE UDF_NAME = 'mysql_ml_so_drop_procedure'),
  'DO mysql_ml_so_drop_procedure(''create_vector_index''),
     mysql_ml_so_drop_procedure(''alter_vector_index''),
     mysql_ml_so_drop_procedure(''drop_vector_index'')',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;
-- End of drops of procedures that the server may have
SET @mysql_ml_drop = IF(
  EXISTS (
    SELECT * FROM information_schema.VIEWS
    WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'vector_indexes' AND DEFINER = 'mysql_ml@localhost'),
  'DROP VIEW mysql.vector_indexes',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;
DROP VIEW IF EXISTS mysql.ml_model_providers;
DROP PROCEDURE IF EXISTS mysql.ml_install_refuse_server;

-- MySQL 9.7 may end, or lose track of its functions (errors 1305 and 1026 until a restart), where a loadable function of any
-- library is dropped while a session calls it. So this waits for calls in progress. It cannot keep new ones from beginning:
-- stop what calls the functions.
DROP PROCEDURE IF EXISTS mysql.ml_uninstall_wait;
DELIMITER //
CREATE PROCEDURE mysql.ml_uninstall_wait()
BEGIN
  DECLARE waits INT DEFAULT 0;
  WHILE EXISTS (
    SELECT * FROM performance_schema.user_defined_functions
    WHERE UDF_LIBRARY = 'mysql_ml.so' AND UDF_USAGE_COUNT > 1) DO
    IF waits = 600 THEN
      SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT =
        'mysql-ml: sessions have been calling its functions for a minute; end them (SHOW PROCESSLIST, KILL), then run this again';
    END IF;
    SET waits = waits + 1;
    DO SLEEP(0.1);
  END WHILE;
END//
DELIMITER ;
CALL mysql.ml_uninstall_wait();
DROP PROCEDURE mysql.ml_uninstall_wait;

-- Generated: drops of loadable functions
DROP FUNCTION IF EXISTS ml_version;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_version;
DROP FUNCTION IF EXISTS ml_embedding;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_embedding;
DROP FUNCTION IF EXISTS ml_query_embedding;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_query_embedding;
DROP FUNCTION IF EXISTS ml_embedding_batch;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_embedding_batch;
DROP FUNCTION IF EXISTS ml_embedding_agg;
DROP FUNCTION IF EXISTS ml_image_embedding;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_image_embedding;
DROP FUNCTION IF EXISTS ml_generate;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_generate;
DROP FUNCTION IF EXISTS ml_predict_row;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_predict_row;
DROP FUNCTION IF EXISTS ai_generate;
DROP FUNCTION IF EXISTS ai_if;
DROP FUNCTION IF EXISTS ai_rank;
DROP FUNCTION IF EXISTS ai_classify;
DROP FUNCTION IF EXISTS ai_extract;
DROP FUNCTION IF EXISTS ai_summarize;
DROP FUNCTION IF EXISTS ai_analyze_sentiment;
DROP FUNCTION IF EXISTS ai_translate;
DROP FUNCTION IF EXISTS ai_generate_batch;
DROP FUNCTION IF EXISTS ai_if_batch;
DROP FUNCTION IF EXISTS ai_rank_batch;
DROP FUNCTION IF EXISTS ai_classify_batch;
DROP FUNCTION IF EXISTS ai_extract_batch;
DROP FUNCTION IF EXISTS ai_summarize_batch;
DROP FUNCTION IF EXISTS ai_analyze_sentiment_batch;
DROP FUNCTION IF EXISTS ai_translate_batch;
DROP FUNCTION IF EXISTS ai_agg;
DROP FUNCTION IF EXISTS ai_agg_summarize;
DROP FUNCTION IF EXISTS ai_generate_table;
DROP FUNCTION IF EXISTS ai_query;
DROP FUNCTION IF EXISTS ai_query_end;
DROP FUNCTION IF EXISTS ai_embedding;
DROP FUNCTION IF EXISTS ai_rerank;
DROP FUNCTION IF EXISTS ai_similarity;
DROP FUNCTION IF EXISTS ai_count_tokens;
DROP FUNCTION IF EXISTS ai_chunk;
DROP FUNCTION IF EXISTS ai_explain_request;
DROP FUNCTION IF EXISTS ml_list_registered_model;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_list_registered_model;
DROP FUNCTION IF EXISTS ml_list_settings;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_list_settings;
DROP FUNCTION IF EXISTS ml_embed_table;
DROP FUNCTION IF EXISTS ml_initialize_embeddings;
DROP FUNCTION IF EXISTS ml_refresh_embeddings;
DROP FUNCTION IF EXISTS ml_drop_embedding_config;
DROP FUNCTION IF EXISTS ml_embedding_progress;
DROP FUNCTION IF EXISTS ai_create_vector_index;
DROP FUNCTION IF EXISTS ai_rebuild_vector_index;
DROP FUNCTION IF EXISTS ai_refresh_vector_index;
DROP FUNCTION IF EXISTS ai_drop_vector_index;
DROP FUNCTION IF EXISTS ai_check_vector_index;
DROP FUNCTION IF EXISTS ai_create_chunks;
DROP FUNCTION IF EXISTS ai_refresh_chunks;
DROP FUNCTION IF EXISTS ai_drop_chunks;
DROP FUNCTION IF EXISTS ai_chunk_tables;
DROP FUNCTION IF EXISTS ai_vector_indexes;
DROP FUNCTION IF EXISTS ml_create_vector_index;
DROP FUNCTION IF EXISTS ml_alter_vector_index;
DROP FUNCTION IF EXISTS ml_drop_vector_index;
DROP FUNCTION IF EXISTS ml_vector_choose;
DROP FUNCTION IF EXISTS ml_vector_lists;
DROP FUNCTION IF EXISTS ml_vector_scan;
DROP FUNCTION IF EXISTS ai_search_begin;
DROP FUNCTION IF EXISTS ai_answer_begin;
DROP FUNCTION IF EXISTS ai_answer;
DROP FUNCTION IF EXISTS ai_search_next;
DROP FUNCTION IF EXISTS ai_search_end;
DROP FUNCTION IF EXISTS ml_vector_search_status;
DROP FUNCTION IF EXISTS ai_vector_candidates;
DROP FUNCTION IF EXISTS ai_vector_candidate_keys;
DROP FUNCTION IF EXISTS ml_model_qualified_name_of;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_model_qualified_name_of;
DROP FUNCTION IF EXISTS ml_generate_model_request_url;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_generate_model_request_url;
DROP FUNCTION IF EXISTS ml_validate_model;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_validate_model;
DROP FUNCTION IF EXISTS ml_status;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_status;
DROP FUNCTION IF EXISTS ml_reset_status;
DROP FUNCTION IF EXISTS ml_cache_clear;
DROP FUNCTION IF EXISTS ml_load_model;
DROP FUNCTION IF EXISTS ml_unload_model;
DROP FUNCTION IF EXISTS ml_fetch_model;
DROP FUNCTION IF EXISTS ml_audit_secrets;
DROP FUNCTION IF EXISTS mysql_ml_so_ml_audit_secrets;
DROP FUNCTION IF EXISTS ml_list_model_providers;
DROP FUNCTION IF EXISTS ml_create_model_registration;
DROP FUNCTION IF EXISTS ml_alter_model_registration;
DROP FUNCTION IF EXISTS ml_drop_model_registration;
DROP FUNCTION IF EXISTS ml_set_model_options;
DROP FUNCTION IF EXISTS ml_create_sm_secret_registration;
DROP FUNCTION IF EXISTS ml_alter_sm_secret_registration;
DROP FUNCTION IF EXISTS ml_drop_sm_secret_registration;
DROP FUNCTION IF EXISTS ml_create_secret;
DROP FUNCTION IF EXISTS ml_alter_secret;
DROP FUNCTION IF EXISTS ml_set_secret_options;
DROP FUNCTION IF EXISTS ml_set_setting;
DROP FUNCTION IF EXISTS cosine_distance;
DROP FUNCTION IF EXISTS l2_squared_distance;
DROP FUNCTION IF EXISTS dot_product;
DROP FUNCTION IF EXISTS vector_distance;
DROP FUNCTION IF EXISTS distance;
DROP FUNCTION IF EXISTS approx_distance;
DROP FUNCTION IF EXISTS mysql_ml_so_create_function;
DROP FUNCTION IF EXISTS mysql_ml_so_drop_procedure;
-- End of drops of loadable functions

DROP ROLE IF EXISTS `ml_user`, `ml_admin`;
DROP USER IF EXISTS `mysql_ml`@`localhost`;

SET @mysql_ml_drop = IF(
  @mysql_ml_drop_registrations,
  'DROP TABLE IF EXISTS
     mysql.cloudsql_ml_models, mysql.cloudsql_ml_secrets, mysql.cloudsql_ml_settings,
     mysql.cloudsql_ml_embed_configs, mysql.cloudsql_ml_embed_progress, mysql.cloudsql_ml_embed_failures',
  'DO 0');
PREPARE mysql_ml_drop FROM @mysql_ml_drop;
EXECUTE mysql_ml_drop;
DEALLOCATE PREPARE mysql_ml_drop;
