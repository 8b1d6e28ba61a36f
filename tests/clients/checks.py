"""What the checks of the Python clients share: where the server is, and counting what was checked."""

import os
import sys
import threading

HOST = os.environ["MYSQL_HOST"]
PORT = int(os.environ["MYSQL_PORT"])
X_PORT = int(os.environ["MYSQL_X_PORT"])
USER = os.environ["MYSQL_USER"]
PASSWORD = os.environ["MYSQL_PWD"]
LOGIN = {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "database": "shop"}

WIDTH = 384
QUESTION = "a parcel is late"
CHAT = '{"messages": [{"role": "user", "content": "hello"}]}'
REPLY = "You said: hello"

_count = 0
_lock = threading.Lock()


def same(what, seen, wanted):
    """Ends the program unless two values are equal."""
    global _count
    if seen != wanted or type(seen) is not type(wanted):
        sys.exit(f"{what}: {seen!r} where {wanted!r} is wanted")
    with _lock:
        _count += 1


def holds(what, text, part):
    """Ends the program unless a text holds another."""
    same(f"{what}: {part!r} in {text!r}", part in text, True)


def done():
    """The last line: the tests read how many checks there were."""
    print(f"checks: {_count}")
