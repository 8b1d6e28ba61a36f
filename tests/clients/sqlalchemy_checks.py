"""SQLAlchemy over PyMySQL and mysql-connector-python: expressions, types, errors, its pool."""

from concurrent.futures import ThreadPoolExecutor

from checks import CHAT, HOST, PASSWORD, PORT, QUESTION, REPLY, USER, WIDTH, done, holds, same
from sqlalchemy import JSON, URL, LargeBinary, cast, create_engine, func, select, text, type_coerce
from sqlalchemy.exc import DBAPIError

for driver in ("pymysql", "mysqlconnector"):
    url = URL.create(f"mysql+{driver}", host=HOST, port=PORT, username=USER, password=PASSWORD, database="shop")
    engine = create_engine(url, pool_size=3, max_overflow=0, pool_pre_ping=True)
    with engine.connect() as connection:
        vector = connection.scalar(select(cast(func.mysql.ml_embedding("words", QUESTION), LargeBinary)))
        same(f"{driver}: a vector is bytes", len(bytes(vector)), 4 * WIDTH)
        answer = connection.scalar(select(type_coerce(func.mysql.ml_predict_row("chat", CHAT), JSON)))
        same(f"{driver}: JSON", answer["choices"][0]["message"]["content"], REPLY)
        try:
            connection.execute(text("SELECT mysql.ml_embedding('refused', :text)"), {"text": "x"})
            raise SystemExit("no error")
        except DBAPIError as error:
            code = error.orig.args[0]
            same(f"{driver}: code", code, 3200)
            holds(f"{driver}: text", str(error.orig), "401")
        connection.rollback()
        same(f"{driver}: the connection goes on", connection.scalar(text("SELECT COUNT(*) FROM docs")), 3)

    def ask(number):
        with engine.connect() as connection:
            return bytes(connection.scalar(select(cast(func.mysql.ml_embedding("words", f"text {number % 5}"), LargeBinary))))

    with ThreadPoolExecutor(6) as threads:
        vectors = list(threads.map(ask, range(60)))
    same(f"{driver}: one vector for each text", len(set(vectors)), 5)
    engine.dispose()
done()
