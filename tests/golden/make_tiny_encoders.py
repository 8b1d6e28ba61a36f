#!/usr/bin/env python3
"""Writes tiny_encoders/: encoders of random weights for each architecture that is computed in the server, with what
transformers makes of some texts. Their vectors mean nothing.

    pip install transformers torch
    python make_tiny_encoders.py tiny_encoders

A directory each with config.json, tokenizer.json, model.safetensors, modules.json, pooling, and expected.json: a list of objects with `text`
and `vector`.
"""

import json
import os
import sys

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

WORDS = "<pad> <unk> <s> </s> the a cat dog sat on mat parcel broken wifi is where my order slow 1 2 3 4 5".split()
TEXTS = ["the cat", "the cat sat on the mat", "where is my order", "a", "my wifi is slow 1 2 3 4 5 " * 4]


def tokenizer(first):
    """`first`: which number the padding has; RoBERTa's positions begin behind it."""
    words = WORDS if first == 0 else [WORDS[2], WORDS[0], *[w for i, w in enumerate(WORDS) if i not in (0, 2)]]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(t, words.index(t)) for t in ("<s>", "</s>")]
    )
    return made, words.index("<pad>")


def main():
    torch.manual_seed(5)
    small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, vocab_size=len(WORDS))
    distil = dict(dim=16, n_layers=2, n_heads=2, hidden_dim=40, vocab_size=len(WORDS), max_position_embeddings=64)
    makers = {
        "bert": (0, "cls", lambda pad: BertModel(BertConfig(**small, max_position_embeddings=64, hidden_act="gelu_new"))),
        "roberta": (1, "mean", lambda pad: RobertaModel(RobertaConfig(**small, max_position_embeddings=66, pad_token_id=pad))),
        "distilbert": (0, "max", lambda pad: DistilBertModel(DistilBertConfig(**distil))),
        "mpnet": (1, "mean", lambda pad: MPNetModel(MPNetConfig(**small, max_position_embeddings=66, pad_token_id=pad))),
    }
    for name, (first, pooling, make) in makers.items():
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
        tokens, pad = tokenizer(first)
        model = make(pad).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # as trained ones are, and not all norms 1
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(folder)
        tokens.save(os.path.join(folder, "tokenizer.json"))
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
        mode = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}[pooling]
        json.dump(modules, open(os.path.join(folder, "modules.json"), "w"))
        json.dump({f"pooling_mode_{mode}": True}, open(os.path.join(folder, "1_Pooling", "config.json"), "w"))
        expected = []
        for text in TEXTS:
            ids = torch.tensor([tokens.encode(text).ids])
            with torch.no_grad():
                rows = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            vector = {"cls": rows[0], "mean": rows.mean(0), "max": rows.max(0).values}[pooling]
            expected.append({"text": text, "vector": [float(x) for x in vector]})
        json.dump(expected, open(os.path.join(folder, "expected.json"), "w"))


main()
