"""The mysql client: batch output, its exit code, and Ctrl-C in a terminal."""

import os
import pty
import re
import select
import subprocess
import time

import pymysql
from checks import CHAT, HOST, LOGIN, PORT, REPLY, USER, WIDTH, done, holds, same

CLIENT = ["mysql", f"--host={HOST}", f"--port={PORT}", f"--user={USER}", "shop"]


def run(sql, *options):
    return subprocess.run([*CLIENT, *options, "--execute", sql], capture_output=True, timeout=60)


out = run("SELECT HEX(mysql.ml_embedding('words', 'x')), mysql.ml_embedding('words', NULL)", "--batch", "-N")
same("exit code", (out.returncode, out.stderr), (0, b""))
vector, nothing = out.stdout.decode().rstrip("\n").split("\t")
same("a vector", len(vector), 8 * WIDTH)
same("NULL", nothing, "NULL")
answer = f"mysql.ml_predict_row('chat', '{CHAT}')"
out = run(f"SELECT JSON_VALUE({answer}, '$.choices[0].message.content')", "--batch", "-N")
same("an answer", out.stdout.decode().strip(), REPLY)
out = run("SELECT mysql.ml_embedding('words', 'x')", "--batch", "-N", "--binary-as-hex")
same("hexadecimal", len(out.stdout.decode().strip()), 2 + 8 * WIDTH)
out = run("SELECT mysql.ml_embedding('refused', 'x')")
same("exit code of a failure", out.returncode, 1)
holds("text of a failure", out.stderr.decode(), "ERROR 3200 (HY000)")
holds("text of a failure", out.stderr.decode(), "401")

# Ctrl-C as a person types it.
process, terminal = pty.fork()
if process == 0:
    os.environ["TERM"] = "dumb"
    os.execvp(CLIENT[0], CLIENT)
seen = ""


def wait_for(pattern):
    global seen
    end = time.monotonic() + 60
    while not (found := re.search(pattern, seen)):
        if time.monotonic() > end:
            raise SystemExit(f"{pattern!r} does not come; seen: {seen!r}")
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
    seen = seen[found.end():]


wait_for("mysql> ")
os.write(terminal, b"SELECT mysql.ml_embedding('hanging', 'x');\n")
watching = pymysql.connect(**LOGIN, autocommit=True)
end = time.monotonic() + 60
with watching.cursor() as cursor:
    while True:
        cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'waiting for a model%'")
        if cursor.fetchone()[0]:
            break
        if time.monotonic() > end:
            raise SystemExit("the call does not wait for the model")
        time.sleep(0.01)
os.write(terminal, b"\x03")
wait_for(r"ERROR 1317 \(70100\): Query execution was interrupted")
same("Ctrl-C", True, True)
wait_for("mysql> ")
os.write(terminal, b"SELECT 6 * 7 AS answer;\n")
wait_for(r"\| +42 \|")
same("the session goes on", True, True)
os.write(terminal, b"exit\n")
same("it ends well", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), 0)
done()
