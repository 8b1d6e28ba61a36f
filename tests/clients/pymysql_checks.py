"""PyMySQL: the text protocol."""

import json
import threading
import time

import pymysql
from checks import CHAT, LOGIN, QUESTION, REPLY, WIDTH, done, holds, same
from pymysql.constants import FIELD_TYPE


def fails(cursor, sql, arguments=()):
    try:
        cursor.execute(sql, arguments)
    except pymysql.err.MySQLError as error:
        return error.args
    raise SystemExit(f"no error: {sql}")


db = pymysql.connect(**LOGIN, autocommit=True)
cursor = db.cursor()

# It does not know the server's type VECTOR, whatever it comes from, and takes such a value for ASCII text.
try:
    cursor.execute("SELECT STRING_TO_VECTOR('[1.7,2.7]')")
    raise SystemExit("PyMySQL knows VECTOR now: docs/clients.md and this file need no CAST any more")
except UnicodeDecodeError:
    same("a VECTOR of the server's own is refused by PyMySQL", True, True)
    db.close()
    db = pymysql.connect(**LOGIN, autocommit=True)
    cursor = db.cursor()

EMBEDDING = "CAST(mysql.ml_embedding('words', %s) AS BINARY)"
cursor.execute(f"SELECT {EMBEDDING}, {EMBEDDING}, ml_embedding('words', %s)", (QUESTION, None, QUESTION))
vector, nothing, bare = cursor.fetchone()
same("the loadable function", bare, vector)
same("a vector is bytes", type(vector), bytes)
same("its length", len(vector), 4 * WIDTH)
same("NULL", nothing, None)
cursor.execute("SELECT cosine_distance(_binary %s, mysql.ml_embedding('words', %s)) < 1e-6", (vector, QUESTION))
same("bytes that are sent back", cursor.fetchone()[0], 1)
cursor.execute("SELECT dot_product(v, v) FROM docs WHERE id = 1")
same("a distance is a number", type(cursor.fetchone()[0]), float)

cursor.execute("SELECT mysql.ml_predict_row('chat', %s)", (CHAT,))
same("the type of an answer", cursor.description[0][1], FIELD_TYPE.JSON)
same("an answer", json.loads(cursor.fetchone()[0])["choices"][0]["message"]["content"], REPLY)

code, text = fails(cursor, "SELECT mysql.ml_embedding('refused', 'x')")
same("code of a refusal", code, 3200)
holds("text of a refusal", text, "401")
code, text = fails(cursor, "SELECT mysql.ml_embedding('no such model', 'x')")
same("code of an unknown model", code, 3200)
holds("text of an unknown model", text, "no such model")
code, _ = fails(cursor, "CALL mysql.ml_set_setting('timeout_ms', '1')")
same("no right on a procedure", code, 1370)
code, _ = fails(cursor, "SELECT /*+ MAX_EXECUTION_TIME(100) */ mysql.ml_embedding('hanging', 'x')")
same("too long", code, 3024)

# A KILL from another connection, once the call waits.
other = pymysql.connect(**LOGIN, autocommit=True)


def kill():
    with other.cursor() as watching:
        for _ in range(3000):
            watching.execute(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s AND state LIKE 'waiting for a model%%'",
                (db.thread_id(),),
            )
            if watching.fetchone()[0]:
                break
            time.sleep(0.01)
        watching.execute(f"KILL QUERY {db.thread_id()}")


killer = threading.Thread(target=kill)
killer.start()
code, _ = fails(cursor, "SELECT mysql.ml_embedding('hanging', 'x')")
killer.join()
same("killed", code, 1317)

cursor.execute("CREATE TEMPORARY TABLE notes (id INT PRIMARY KEY, body TEXT, v VECTOR(384))")
rows = [(i, f"note number {i}") for i in range(50)]
cursor.executemany("INSERT INTO notes (id, body, v) VALUES (%s, %s, mysql.ml_embedding('words', body))", rows)
same("rows of executemany", cursor.rowcount, 50)
cursor.execute("SELECT COUNT(*), SUM(VECTOR_DIM(v)) FROM notes")
same("the connection goes on", cursor.fetchone()[0], 50)
with pymysql.cursors.SSCursor(db) as stream:
    stream.execute("SELECT CAST(v AS BINARY) FROM notes")
    same("vectors of a stream", {len(v) for (v,) in stream}, {4 * WIDTH})
done()
