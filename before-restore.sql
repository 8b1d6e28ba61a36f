-- Run as an administrator, after install.sql, before a dump by mysqldump --routines is restored; then run install.sql again:
-- docs/backup.md. In such a dump DROP FUNCTION IF EXISTS `ml_embedding` means the stored function, but the server drops the
-- loadable one of that name, if there is one, and the CREATE FUNCTION that follows fails. So those go before.

-- Do not wait long for a call in progress: all others would wait behind this.
SET SESSION lock_wait_timeout = 10;

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

-- Generated: drops of loadable functions that stored ones wrap
DROP FUNCTION IF EXISTS ml_version;
DROP FUNCTION IF EXISTS ml_embedding;
DROP FUNCTION IF EXISTS ml_query_embedding;
DROP FUNCTION IF EXISTS ml_embedding_batch;
DROP FUNCTION IF EXISTS ml_image_embedding;
DROP FUNCTION IF EXISTS ml_generate;
DROP FUNCTION IF EXISTS ml_predict_row;
DROP FUNCTION IF EXISTS ml_list_registered_model;
DROP FUNCTION IF EXISTS ml_list_settings;
DROP FUNCTION IF EXISTS ml_model_qualified_name_of;
DROP FUNCTION IF EXISTS ml_generate_model_request_url;
DROP FUNCTION IF EXISTS ml_validate_model;
DROP FUNCTION IF EXISTS ml_status;
DROP FUNCTION IF EXISTS ml_audit_secrets;
-- End of drops of loadable functions that stored ones wrap

SELECT 'restore the dump now, then run install.sql' AS message;
