#!/bin/bash
# Installs the library into a data directory that mysqld has just made.
set -e
here=$(mktemp -d)
mysqld --no-defaults --user=root --datadir="$1" --socket="$here/s" --skip-networking --skip-log-bin --mysqlx=OFF --secure-file-priv=NULL \
  --pid-file="$here/pid" --log-error="$here/log" &
client="mysql --no-defaults --user=root --socket=$here/s"
until $client --execute='DO 0' 2>/dev/null; do
  kill -0 $!
  sleep 0.1
done
$client < /mysql-ml/install.sql
$client < /mysql-ml/install-ai.sql
mysqladmin --no-defaults --user=root --socket="$here/s" shutdown
wait
