-- The tables of the first version, each as it was first made, with rows. `upgrade::` runs install.sql over them.

CREATE USER IF NOT EXISTS `mysql_ml`@`localhost`
  IDENTIFIED WITH caching_sha2_password
    AS '$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED'
  ACCOUNT LOCK PASSWORD EXPIRE NEVER COMMENT 'owns the tables and routines of mysql-ml; locked';

CREATE TABLE mysql.cloudsql_ml_models (
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
INSERT INTO mysql.cloudsql_ml_models (model_id, model_request_url, model_provider, model_type, model_qualified_name, model_auth_type, model_auth_id, options, definer)
VALUES
  ('m', '{{endpoint}}/v1/embeddings', 'open_ai', 'text_embedding', 'test-8', 'auth_type_secret_manager', 'old_key', '{"batch_size": 2}', 'root@localhost'),
  ('words', NULL, 'dummy', 'text_embedding', NULL, NULL, NULL, NULL, 'root@localhost');

CREATE TABLE mysql.cloudsql_ml_secrets (
  secret_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  secret_path VARCHAR(512) NOT NULL COMMENT 'where the key is found, never the key',
  options JSON NULL,
  definer VARCHAR(288) NOT NULL,
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: registered secrets';
INSERT INTO mysql.cloudsql_ml_secrets (secret_id, secret_path, definer) VALUES ('old_key', 'env:MYSQL_ML_SECRET_TEST', 'root@localhost');

CREATE TABLE mysql.cloudsql_ml_settings (
  name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  value VARCHAR(4096) NOT NULL,
  CONSTRAINT cloudsql_ml_settings_name CHECK (name IN ('timeout_ms', 'connect_timeout_ms', 'max_retries', 'max_response_mb', 'registry_ttl_ms', 'cache_memory_mb', 'egress_allowlist', 'proxy', 'ca_file'))
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: settings that differ from their default';
INSERT INTO mysql.cloudsql_ml_settings VALUES ('timeout_ms', '12345');

CREATE TABLE mysql.cloudsql_ml_embed_progress (
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  embedding_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  model_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  status VARCHAR(16) NOT NULL COMMENT 'running, finished, stopped or failed',
  embedded BIGINT UNSIGNED NOT NULL,
  failed BIGINT UNSIGNED NOT NULL,
  skipped BIGINT UNSIGNED NOT NULL COMMENT 'rows that changed while they were embedded',
  message TEXT NULL,
  started_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (table_schema, table_name, embedding_column)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: the last ml_embed_table of each column';
INSERT INTO mysql.cloudsql_ml_embed_progress (table_schema, table_name, embedding_column, model_id, status, embedded, failed, skipped)
VALUES ('u', 't', 'v', 'm', 'finished', 1, 1, 0);

CREATE TABLE mysql.cloudsql_ml_embed_failures (
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  embedding_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  row_key_hash BINARY(32) NOT NULL,
  row_key JSON NOT NULL,
  error TEXT NOT NULL,
  tries INT UNSIGNED NOT NULL DEFAULT 1,
  failed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (table_schema, table_name, embedding_column, row_key_hash)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: rows that ml_embed_table could not embed';
INSERT INTO mysql.cloudsql_ml_embed_failures (table_schema, table_name, embedding_column, row_key_hash, row_key, error)
VALUES ('u', 't', 'v', REPEAT('x', 32), '[1]', 'it failed');

CREATE TABLE mysql.cloudsql_ml_embed_configs (
  table_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  embedding_column VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  content_column TEXT NOT NULL COMMENT 'a column or an expression',
  model_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  batch_size INT UNSIGNED NULL,
  incremental_refresh_mode VARCHAR(16) NOT NULL COMMENT 'manual or transactional',
  definer VARCHAR(288) NOT NULL COMMENT 'the account that initialized it',
  rows_to_embed BIGINT UNSIGNED NULL COMMENT 'when somebody last asked for them',
  last_error TEXT NULL COMMENT 'of the event',
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (table_schema, table_name, embedding_column)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT 'mysql-ml: columns that are kept embedded';
INSERT INTO mysql.cloudsql_ml_embed_configs (table_schema, table_name, embedding_column, content_column, model_id, incremental_refresh_mode, definer)
VALUES ('u', 't', 'v', 'body', 'm', 'manual', 'root@localhost');

CREATE DATABASE u;
CREATE TABLE u.t (id INT PRIMARY KEY AUTO_INCREMENT, body TEXT, v VECTOR(8));
INSERT INTO u.t (body) VALUES ('one'), ('two'), (NULL);
