"""An HNSW graph of faiss in memory: its time to build, and searches one at a time. Prints a JSON object.

Arguments: files of vectors and queries (32-bit floats), dimensions, links, breadth while building, breadths of searches.
"""

import json
import sys
import time

import faiss
import numpy

vectors, queries, dimensions, links, construction, *breadths = sys.argv[1:]
vectors = numpy.fromfile(vectors, dtype="<f4").reshape(-1, int(dimensions))
queries = numpy.fromfile(queries, dtype="<f4").reshape(-1, int(dimensions))
index = faiss.IndexHNSWFlat(int(dimensions), int(links), faiss.METRIC_INNER_PRODUCT)
index.hnsw.efConstruction = int(construction)
started = time.perf_counter()
index.add(vectors)
built = time.perf_counter() - started
faiss.omp_set_num_threads(1)
runs = []
for breadth in map(int, breadths):
    index.hnsw.efSearch = breadth
    found, times = [], []
    for query in queries:
        started = time.perf_counter()
        _, rows = index.search(query.reshape(1, -1), 10)
        times.append((time.perf_counter() - started) * 1000)
        found.append(rows[0].tolist())
    runs.append({"breadth": breadth, "found": found, "ms": times})
print(json.dumps({"version": faiss.__version__, "built": built, "bytes": len(faiss.serialize_index(index)), "runs": runs}))
