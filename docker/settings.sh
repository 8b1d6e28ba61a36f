# Sourced by the image's entrypoint when it initialises an empty data directory: the library's settings from the
# environment. MYSQL_ML_SETTING_EGRESS_ALLOWLIST is the setting egress_allowlist. Later changes are made with
# CALL mysql.ml_set_setting(...).
# Text as hexadecimal numbers: nothing in a value can end a literal of them.
mysql_ml_hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

for name in $(compgen -e MYSQL_ML_SETTING_ || true); do
  setting="${name#MYSQL_ML_SETTING_}"
  value="${!name}"
  # An empty one is not set: compose files pass on variables that may be missing.
  [ -n "$value" ] || continue
  echo "mysql-ml: setting ${setting,,}"
  docker_process_sql <<<"CALL mysql.ml_set_setting(LOWER(CONVERT(x'$(mysql_ml_hex "$setting")' USING utf8mb4)), CONVERT(x'$(mysql_ml_hex "$value")' USING utf8mb4));"
done
