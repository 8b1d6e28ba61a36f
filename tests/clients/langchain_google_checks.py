"""langchain-google-cloud-sql-mysql: its store on this server, without Cloud SQL's syntax."""

from checks import HOST, PASSWORD, PORT, USER, done, holds, same
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_google_cloud_sql_mysql import (
    DistanceMeasure, IndexType, MySQLEngine, MySQLVectorStore, QueryOptions, SearchType, VectorIndex,
)
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import ProgrammingError

TEXTS = ["Reset a forgotten password", "Track a parcel that is late", "Return a broken item"]
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]

# The constructor takes any engine; `from_instance` needs Cloud SQL.
engine = MySQLEngine(create_engine(URL.create(
    "mysql+pymysql", host=HOST, port=PORT, username=USER, password=PASSWORD, database="stores")))


class Words(Embeddings):
    """The model `words` of the server."""

    def embed_query(self, text):
        row = engine._fetch("SELECT VECTOR_TO_STRING(mysql.ml_embedding('words', :text)) AS v", {"text": text})[0]
        return [float(number) for number in row["v"].strip("[]").split(",")]

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


def refused(what, work, part):
    try:
        work()
        raise SystemExit(f"{what}: no error")
    except ProgrammingError as error:
        same(f"{what}: a syntax error", error.orig.args[0], 1064)
        holds(what, str(error.orig), part)


refused("vector(384) USING VARBINARY", lambda: engine.init_vectorstore_table("docs", 384), "USING VARBINARY")
engine._execute(
    "CREATE TABLE docs (langchain_id CHAR(36) PRIMARY KEY, content TEXT NOT NULL, embedding VARBINARY(1536) NOT NULL,"
    " source VARCHAR(20), langchain_metadata JSON)")


def options(measure, kind=SearchType.KNN):
    return QueryOptions(num_neighbors=2, distance_measure=measure, search_type=kind)


store = MySQLVectorStore(
    engine, Words(), "docs", metadata_columns=["source"], query_options=options(DistanceMeasure.COSINE))
documents = [Document(page_content=text, metadata={"source": f"page {n}", "n": n}) for n, text in enumerate(TEXTS)]
same("ids", store.add_documents(documents, ids=IDS), IDS)

found = store.similarity_search("a parcel is late", k=2)
same("nearest", [d.page_content for d in found], [TEXTS[1], TEXTS[0]])
same("metadata", found[0].metadata, {"source": "page 1", "n": 1})
for measure in DistanceMeasure:
    scored = store.similarity_search_with_score(TEXTS[2], k=1, query_options=options(measure))
    if measure != DistanceMeasure.DOT_PRODUCT:
        same(f"{measure.name}: nearest", (scored[0][0].page_content, round(scored[0][1], 5)), (TEXTS[2], 0.0))
    else:
        same("DOT_PRODUCT is ascending, the farthest first", scored[0][0].page_content != TEXTS[2], True)
same("filter", [d.page_content for d in store.similarity_search("parcel", k=2, filter="source = 'page 2'")], [TEXTS[2]])
same("mmr", store.max_marginal_relevance_search("a parcel is late", k=1, fetch_k=3)[0].page_content, TEXTS[1])

# The index: created, found by its name, altered, and used by ai.search.
same("no index", store._get_vector_index_name(), None)
index = VectorIndex(index_type=IndexType.TREE_SQ, distance_measure=DistanceMeasure.COSINE, num_partitions=2)
store.apply_vector_index(index)
same("its name", store._get_vector_index_name(), "stores.docs_langchainvectorindex")
store.alter_vector_index(VectorIndex(num_partitions=1, num_neighbors=5))
shown = engine._fetch("SELECT table_name, column_name, dimension, distance_measure, num_partitions FROM mysql.vector_indexes")
same("shown", [tuple(dict(row).values()) for row in shown], [("stores.docs", "embedding", 384, "cosine", 1)])
same("a search by the index", store.query_options.search_type, SearchType.ANN)
refused("NEAREST ... TO", lambda: store.similarity_search("a parcel is late"), "TO (string_to_vector")
found = store.similarity_search("a parcel is late", k=1, query_options=options(DistanceMeasure.COSINE))
same("KNN with an index", found[0].page_content, TEXTS[1])
rows = engine._fetch(
    "CALL ai.search('stores.docs', 'embedding', :query, 1, '{\"columns\": [\"content\"]}')",
    {"query": str(Words().embed_query("a parcel is late"))})
same("ai.search", rows[0]["content"], TEXTS[1])
path = engine._fetch("SELECT index_name FROM mysql.vector_indexes WHERE status = 'ready'")
same("ready", len(path), 1)
same("deleted", store.delete([IDS[1]]), True)
same("after it", len(store.similarity_search("parcel", k=5, query_options=options(DistanceMeasure.COSINE))), 2)
same("dropped", store.drop_vector_index(), "stores.docs_langchainvectorindex")
same("is gone", store._get_vector_index_name(), None)
found = store.similarity_search("broken", k=1)
same("KNN again", found[0].page_content, TEXTS[2])
engine._execute("DROP TABLE docs")
engine.engine.dispose()
done()
