#!/bin/bash
# What the entrypoint of the official MySQL image promises, as far as this project uses it: MYSQL_ROOT_PASSWORD and
# MYSQL_ROOT_PASSWORD_FILE, a temporary server without network that runs /docker-entrypoint-initdb.d in order when the data
# directory is empty, docker_process_sql for scripts that are sourced, the user mysql.
set -eo pipefail
shopt -s nullglob

note() { echo "[Entrypoint]: $*"; }
fail() { echo "[Entrypoint] ERROR: $*" >&2; exit 1; }

root_password() {
  if [ -n "${MYSQL_ROOT_PASSWORD_FILE:-}" ]; then
    [ -z "${MYSQL_ROOT_PASSWORD:-}" ] || fail "both MYSQL_ROOT_PASSWORD and MYSQL_ROOT_PASSWORD_FILE are set"
    MYSQL_ROOT_PASSWORD="$(<"$MYSQL_ROOT_PASSWORD_FILE")"
  fi
  unset MYSQL_ROOT_PASSWORD_FILE
  [ -n "${MYSQL_ROOT_PASSWORD:-}" ] || fail "MYSQL_ROOT_PASSWORD is not set"
}

docker_process_sql() {
  MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --protocol=socket -uroot -hlocalhost --comments --database=mysql "$@"
}

run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case "$file" in
      *.sh)
        if [ -x "$file" ]; then note "running $file"; "$file"; else note "sourcing $file"; . "$file"; fi ;;
      *.sql) note "running $file"; docker_process_sql <"$file" ;;
      *.sql.gz) note "running $file"; gunzip -c "$file" | docker_process_sql ;;
      *) note "ignoring $file" ;;
    esac
  done
}

initialise() {
  note "initializing database files"
  "$@" --initialize-insecure --default-time-zone=SYSTEM
  note "starting temporary server"
  "$@" --daemonize --skip-networking --default-time-zone=SYSTEM --mysqlx=OFF \
    --log-error=/var/lib/mysql/initialisation.log
  mysql --protocol=socket -uroot -hlocalhost --database=mysql <<SQL
SET @@SESSION.SQL_LOG_BIN=0;
ALTER USER 'root'@'localhost' IDENTIFIED BY '${MYSQL_ROOT_PASSWORD//\'/\'\'}';
CREATE USER 'root'@'%' IDENTIFIED BY '${MYSQL_ROOT_PASSWORD//\'/\'\'}';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
SQL
  run_init_files
  note "stopping temporary server"
  MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysqladmin --protocol=socket -uroot shutdown
  while [ -e /var/run/mysqld/mysqld.pid ]; do sleep 0.1; done
  note "MySQL init process done. Ready for start up."
}

[ "${1:0:1}" != - ] || set -- mysqld "$@"
if [ "$1" = mysqld ]; then
  if [ "$(id -u)" = 0 ]; then
    find /var/lib/mysql /var/run/mysqld \! -user mysql -exec chown mysql '{}' +
    exec setpriv --reuid=mysql --regid=mysql --init-groups "${BASH_SOURCE[0]}" "$@"
  fi
  if [ ! -d /var/lib/mysql/mysql ]; then
    root_password
    initialise "$@"
  fi
fi
exec "$@"
