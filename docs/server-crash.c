/* MySQL 9.7.4 ends with signal 11 when an expression of a stored program has a loadable function and, as its argument,
   around it or beside it, a subquery with an aggregate, a window function or HAVING. Nothing of mysql-ml is needed:

     cc -shared -fPIC -o "$(mysql -NBe 'SELECT @@plugin_dir')"/one.so server-crash.c

     CREATE FUNCTION udf_one RETURNS INTEGER SONAME 'one.so';
     CREATE DATABASE s;
     CREATE TABLE s.t (a INT);
     CREATE FUNCTION s.f() RETURNS INT READS SQL DATA RETURN udf_one((SELECT COUNT(*) FROM s.t));
     SELECT s.f(); SELECT s.f();   -- in one session; the second ends the server

   The same by SET, IF, CASE, WHILE and DECLARE ... DEFAULT in procedures and by SET in triggers. From the top of the stack:
   Item_sum::add_used_tables_for_aggr_func, Query_block::update_used_tables, Query_expression::restore_cmd_properties,
   sp_lex_instr::execute_expression. sp_lex_instr::validate_lex_and_execute_core parses an instruction with a loadable
   function anew for each execution and leaves the state of its arena at STMT_EXECUTED; execute_expression therefore
   calls restore_cmd_properties() for subqueries that were never resolved. */
int udf_one_init(void *init, void *args, char *message) { return 0; }
long long udf_one(void *init, void *args, char *is_null, char *error) { return 1; }
