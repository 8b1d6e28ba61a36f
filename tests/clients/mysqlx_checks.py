"""mysqlx-connector-python: the X Protocol."""

import json

import mysqlx
from checks import CHAT, HOST, PASSWORD, QUESTION, REPLY, USER, WIDTH, X_PORT, done, holds, same

LOGIN = {"host": HOST, "port": X_PORT, "user": USER, "password": PASSWORD}


def fails(session, sql, *arguments):
    try:
        session.sql(sql).bind(*arguments).execute().fetch_all()
    except mysqlx.errors.Error as error:
        return error
    raise SystemExit(f"no error: {sql}")


session = mysqlx.get_session(LOGIN)
session.sql("USE shop").execute()
row = session.sql("SELECT mysql.ml_embedding('words', ?), mysql.ml_embedding('words', NULL)").bind(QUESTION).execute().fetch_one()
same("a vector is bytes", type(row[0]), bytes)
same("its length", len(row[0]), 4 * WIDTH)
same("NULL", row[1], None)
# It binds no bytes.
row = session.sql("SELECT cosine_distance(v, UNHEX(?)) IS NOT NULL FROM docs LIMIT 1").bind(row[0].hex()).execute().fetch_one()
same("bytes that are sent back", row[0], 1)
answer = session.sql("SELECT mysql.ml_predict_row('chat', ?)").bind(CHAT).execute().fetch_one()[0]
answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
same("an answer", answer["choices"][0]["message"]["content"], REPLY)
error = fails(session, "SELECT mysql.ml_embedding('refused', ?)", "x")
same("code", error.errno, 3200)
holds("text", error.msg, "401")
error = fails(session, "SELECT /*+ MAX_EXECUTION_TIME(100) */ mysql.ml_embedding('hanging', ?)", "x")
same("too long", error.errno, 3024)
session.close()

client = mysqlx.get_client(LOGIN, {"pooling": {"enabled": True, "max_size": 2}})
for number in range(6):
    session = client.get_session()
    row = session.sql("SELECT VECTOR_DIM(mysql.ml_embedding('words', ?))").bind(f"text {number}").execute().fetch_one()
    same("a session of a pool", int(row[0]), WIDTH)
    session.close()
client.close()
done()
