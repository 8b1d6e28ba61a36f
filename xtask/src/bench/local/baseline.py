#!/usr/bin/env python3
"""What sentence-transformers and onnxruntime reach with the same weights, for `cargo xtask bench local`.

    baseline.py MODEL_DIRECTORY ONNX_FILE

The ONNX file is made from the weights unless it is there. Reads requests from standard input, one JSON object a line, and
answers each with one: `{"engine", "texts"}` embeds all texts (onnxruntime: sorted by length, 32 at a time), `{"engine",
"texts", "alone": threads}` each by itself on so many threads. `{"engine": "onnxruntime", "texts", "query"}` passes pairs of the
query and each text through the encoder, as a cross-encoder does before its small head. The answer has `seconds`, and for single texts `each`, their
times. Engines: `sentence-transformers`, `onnxruntime`.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import onnxruntime
import sentence_transformers
import torch
from tokenizers import Tokenizer

BATCH = 32


def export(model, file):
    """The encoder without pooling, with any number of texts and tokens."""
    encoder = model[0].auto_model.eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in range(3))
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=512)
    shape = {0: batch, 1: tokens}
    with torch.no_grad():
        torch.onnx.export(
            Encoder(),
            example,
            file,
            input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["rows"],
            dynamic_shapes=(shape, shape, shape),
            dynamo=True,
            external_data=False,
        )


class Onnx:
    def __init__(self, directory, file):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = os.cpu_count()
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def rows(self, encodings):
        longest = max(len(e.ids) for e in encodings)
        ids = numpy.zeros((len(encodings), longest), dtype=numpy.int64)
        mask, types = numpy.zeros_like(ids), numpy.zeros_like(ids)
        for i, e in enumerate(encodings):
            ids[i, : len(e.ids)] = e.ids
            mask[i, : len(e.ids)] = 1
            types[i, : len(e.ids)] = e.type_ids
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return self.session.run(None, feeds)[0], mask

    def batch(self, encodings):
        rows, mask = self.rows(encodings)
        weights = mask[:, :, None].astype(numpy.float32)
        pooled = (rows * weights).sum(1) / weights.sum(1)
        return pooled / numpy.linalg.norm(pooled, axis=1, keepdims=True)

    def embed(self, texts):
        return self.by_length(self.tokenizer.encode_batch(texts), self.batch)

    def rank(self, query, texts):
        encodings = self.tokenizer.encode_batch([(query, text) for text in texts])
        return self.by_length(encodings, lambda some: self.rows(some)[0][:, 0])

    def by_length(self, encodings, batch):
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        vectors = [None] * len(encodings)
        for start in range(0, len(encodings), BATCH):
            places = order[start : start + BATCH]
            for place, vector in zip(places, batch([encodings[p] for p in places])):
                vectors[place] = vector
        return vectors


def main():
    directory, file = sys.argv[1:3]
    model = sentence_transformers.SentenceTransformer(directory, device="cpu")
    torch.set_num_threads(os.cpu_count())
    if not os.path.exists(file):
        export(model, file + ".new")
        os.rename(file + ".new", file)
    onnx = Onnx(directory, file)
    engines = {
        "sentence-transformers": lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False),
        "onnxruntime": onnx.embed,
    }
    a, b = (engines[name](["the engines agree"])[0] for name in engines)
    assert float(numpy.dot(a, b)) > 0.99999
    versions = {m.__name__: m.__version__ for m in (torch, sentence_transformers, onnxruntime)}
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        embed, texts = engines[request["engine"]], request["texts"]

        def timed(text):
            began = time.perf_counter()
            embed([text])
            return time.perf_counter() - began

        began = time.perf_counter()
        each = []
        if request.get("alone"):
            with ThreadPoolExecutor(request["alone"]) as pool:
                each = list(pool.map(timed, texts))
        elif request.get("query"):
            onnx.rank(request["query"], texts)
        else:
            embed(texts)
        print(json.dumps({"seconds": time.perf_counter() - began, "each": each}), flush=True)


main()
