"""Stores for MySQL 9's VECTOR and DISTANCE(), unchanged: langchain-shannonbase and llama-index-vector-stores-shannonbase."""

from checks import HOST, PASSWORD, PORT, USER, done, same
from langchain_core.embeddings import Embeddings
from langchain_shannonbase import ShannonBaseVectorStore as LangChainStore
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery, VectorStoreQueryMode,
)
from llama_index.vector_stores.shannonbase import ShannonBaseVectorStore as LlamaStore

import mysql.connector

LOGIN = {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "database": "stores"}
TEXTS = ["Reset a forgotten password", "Track a parcel that is late", "Return a broken item"]

db = mysql.connector.connect(**LOGIN, autocommit=True)
cursor = db.cursor()


def embed(text):
    cursor.execute("SELECT mysql.ml_embedding('words', %s)", (text,))
    return list(cursor.fetchone()[0])


class Words(Embeddings):
    """The model `words` of the server."""

    def embed_query(self, text):
        return embed(text)

    def embed_documents(self, texts):
        return [embed(text) for text in texts]


for metric in ("cosine", "euclidean", "dot"):
    store = LangChainStore(Words(), table=f"chain_{metric}", metric=metric, pool_size=2, **LOGIN)
    ids = store.add_texts(TEXTS, metadatas=[{"n": n} for n in range(3)], ids=["a", "b", "c"])
    same(f"{metric}: ids", ids, ["a", "b", "c"])
    found = store.similarity_search_with_score("Track a parcel that is late", k=2)
    same(f"{metric}: nearest", found[0][0].page_content, TEXTS[1])
    same(f"{metric}: in order", found[0][1] >= found[1][1], True)
    same(f"{metric}: filter", [d.metadata for d in store.similarity_search("parcel", k=3, filter={"n": {"$gt": 1}})], [{"n": 2}])
    same(f"{metric}: mmr", store.max_marginal_relevance_search("a parcel is late", k=1)[0].page_content, TEXTS[1])
    same(f"{metric}: hybrid", store.hybrid_search("broken item", k=1)[0].page_content, TEXTS[2])
    store.delete(["b"])
    same(f"{metric}: after a deletion", len(store.similarity_search("parcel", k=5)), 2)

# Its table takes an index of this library.
cursor.execute("CALL ai.create_vector_index('stores.chain_cosine', 'embedding', NULL)")
cursor.fetchall()
cursor.nextset()
cursor.execute("CALL ai.search('stores.chain_cosine', 'embedding', ' broken ', 1, '{\"columns\": [\"id\"], \"model_id\": \"words\"}')")
same("ai.search", [row[0] for row in cursor.fetchall()], ["c"])
cursor.nextset()
cursor.execute("SELECT JSON_VALUE(ml_vector_search_status(), '$.path')")
same("by the index", cursor.fetchone()[0], "index")
cursor.execute("CALL ai.drop_vector_index('stores.chain_cosine', 'embedding', NULL)")

llama = LlamaStore(table="llama", pool_size=2, **LOGIN)
nodes = [
    TextNode(id_=f"node {n}", text=text, embedding=embed(text), metadata={"n": n},
             relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"page {n}")})
    for n, text in enumerate(TEXTS)
]
same("llama: ids", llama.add(nodes), ["node 0", "node 1", "node 2"])
ask = embed("a parcel is late")
result = llama.query(VectorStoreQuery(query_embedding=ask, similarity_top_k=2))
same("llama: nearest", result.ids[0], "node 1")
same("llama: text", result.nodes[0].get_content(), TEXTS[1])
same("llama: in order", result.similarities[0] >= result.similarities[1], True)
only = MetadataFilters(filters=[MetadataFilter(key="n", value=2, operator=FilterOperator.EQ)])
result = llama.query(VectorStoreQuery(query_embedding=ask, similarity_top_k=2, filters=only))
same("llama: filter", result.ids, ["node 2"])
result = llama.query(VectorStoreQuery(
    query_embedding=ask, query_str="broken item", similarity_top_k=3, mode=VectorStoreQueryMode.HYBRID))
same("llama: hybrid", sorted(result.ids), ["node 0", "node 1", "node 2"])
llama.delete("page 1")
result = llama.query(VectorStoreQuery(query_embedding=ask, similarity_top_k=5))
same("llama: after a deletion", sorted(result.ids), ["node 0", "node 2"])
for table in ("chain_cosine", "chain_euclidean", "chain_dot", "llama"):
    cursor.execute(f"DROP TABLE {table}")
db.close()
done()
