#!/bin/bash
# The demo of docker-compose.yml: registers the server for embeddings beside it and searches texts by meaning.
set -euo pipefail
export MYSQL_PWD
MYSQL_PWD="$(cat /run/secrets/mysql_root_password)"
mysql=(mysql --user=root --host=mysql --table)

"${mysql[@]}" <<SQL
CALL mysql.ml_set_setting('egress_allowlist', 'http://embeddings, http://127.0.0.0/8');
SELECT COUNT(*) INTO @known FROM mysql.cloudsql_ml_models WHERE model_id = 'demo';
SET @register = IF(@known, 'DO 0', "CALL mysql.ml_create_model_registration('demo', 'http://embeddings/v1/embeddings',
  'open_ai', 'text_embedding', '${EMBEDDINGS_MODEL}', NULL, NULL, NULL, NULL, NULL)");
PREPARE register FROM @register;
EXECUTE register;
SQL

echo "waiting for the model, which is fetched at the first start"
for _ in $(seq 300); do
  answer="$("${mysql[@]}" --skip-column-names --batch --raw --execute="SELECT mysql.ml_validate_model('demo')")"
  case "$answer" in *'"ok": true'*) break ;; esac
  sleep 2
done
case "$answer" in *'"ok": true'*) ;; *) echo "the model does not answer: $answer" >&2; exit 1 ;; esac

"${mysql[@]}" <<'SQL'
CREATE DATABASE IF NOT EXISTS demo;
USE demo;
DROP TABLE IF EXISTS docs;
CREATE TABLE docs (id INT PRIMARY KEY, body TEXT, v VECTOR(384));
INSERT INTO docs (id, body) VALUES
  (1, 'I forgot my password and cannot sign in'),
  (2, 'The parcel has not arrived yet'),
  (3, 'This item is broken, I want my money back'),
  (4, 'How do I change the delivery address?');
CALL mysql.ml_embed_table('demo', 'demo.docs', 'body', 'v', NULL);
SET @query = mysql.ml_embedding('demo', 'where is my order?');
SELECT id, body, ROUND(cosine_distance(v, @query), 3) AS distance FROM docs ORDER BY distance LIMIT 3;
SQL
