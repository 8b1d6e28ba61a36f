"""mysql-connector-python: text and binary protocol, its own code and the C library's, pools."""

import json
from array import array
from concurrent.futures import ThreadPoolExecutor

import mysql.connector
from checks import CHAT, LOGIN, QUESTION, REPLY, WIDTH, done, holds, same
from mysql.connector import FieldType, pooling


def fails(cursor, sql, arguments=()):
    try:
        cursor.execute(sql, arguments)
        cursor.fetchall()
    except mysql.connector.Error as error:
        return error
    raise SystemExit(f"no error: {sql}")


def check(use_pure, prepared):
    kind = f"pure={use_pure} prepared={prepared}"
    db = mysql.connector.connect(**LOGIN, use_pure=use_pure, autocommit=True)
    cursor = db.cursor(prepared=prepared)
    mark = "?" if prepared else "%s"
    for text in (QUESTION, "another text"):
        # Twice: a prepared statement is executed again with other values.
        cursor.execute(f"SELECT mysql.ml_embedding('words', {mark}), mysql.ml_embedding('words', NULL)", (text,))
        vector, nothing = cursor.fetchone()
        # It knows the server's type VECTOR.
        same(f"{kind}: a vector is its numbers", type(vector), array)
        same(f"{kind}: its length", (vector.typecode, len(vector)), ("f", WIDTH))
        same(f"{kind}: NULL", nothing, None)
        cursor.fetchall()
    distance = f"cosine_distance({'' if prepared else '_binary '}{mark}, v)"
    cursor.execute(f"SELECT id, {distance} FROM docs ORDER BY 2 LIMIT 1", (bytes(vector),))
    found = cursor.fetchall()
    same(f"{kind}: a distance", [type(value) for value in found[0]], [int, float])
    cursor.execute(f"SELECT mysql.ml_predict_row('chat', {mark})", (CHAT,))
    same(f"{kind}: the type of an answer", cursor.description[0][1], FieldType.JSON)
    answer = cursor.fetchone()[0]
    same(f"{kind}: an answer", json.loads(answer)["choices"][0]["message"]["content"], REPLY)
    cursor.fetchall()
    error = fails(cursor, f"SELECT mysql.ml_embedding('refused', {mark})", ("x",))
    same(f"{kind}: code", error.errno, 3200)
    same(f"{kind}: state", error.sqlstate, "HY000")
    holds(f"{kind}: text", error.msg, "401")
    cursor.execute(f"SELECT mysql.ml_version() = {mark}", ("",))
    same(f"{kind}: the connection goes on", len(cursor.fetchall()), 1)
    db.close()


# The C library's own OpenSSL does not load beside an older one that Python has loaded, on Debian 12 for example.
for use_pure in (True, False) if mysql.connector.HAVE_CEXT else (True,):
    for prepared in (False, True):
        check(use_pure, prepared)

pool = pooling.MySQLConnectionPool(pool_name="ml", pool_size=4, **LOGIN)


def ask(number):
    db = pool.get_connection()
    try:
        with db.cursor() as cursor:
            cursor.execute("SELECT mysql.ml_embedding('words', %s)", (f"text {number % 7}",))
            return bytes(cursor.fetchone()[0])
    finally:
        db.close()


with ThreadPoolExecutor(4) as threads:
    vectors = list(threads.map(ask, range(100)))
same("vectors of a pool", len(vectors), 100)
same("one for each text", len(set(vectors)), 7)
done()
