#!/usr/bin/env python3
"""Writes tiny_rerankers/: cross-encoders of random weights for each architecture that is computed in the server, with the
scores that sentence-transformers gives to some pairs of texts. The scores mean nothing.

    pip install sentence-transformers torch
    python make_tiny_rerankers.py tiny_rerankers

A directory each with config.json, tokenizer.json, tokenizer_config.json, model.safetensors, and expected.json: a list of objects
with `query`, `document` and `score`. Pairs beyond 24 tokens are cut by sentence-transformers' rule.
"""

import json
import os
import sys

import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

WORDS = "<pad> <unk> <s> </s> the a cat dog sat on mat parcel broken wifi is where my order slow 1 2 3 4 5".split()
MAX_TOKENS = 24
LONG = "my wifi is slow 1 2 3 4 5 " * 4
PAIRS = [
    ("where is my parcel", "the cat sat on the mat"),
    ("where is my parcel", "my order is slow"),
    ("cat", ""),
    ("a", "a"),
    ("where is my parcel", LONG),  # the document is cut
    (LONG, "the cat sat"),  # the query is cut
    (LONG, LONG + "the mat"),  # both are cut, to halves
]


def tokenizer(name, first):
    """`first`: which number the padding has; RoBERTa's positions begin behind it."""
    words = WORDS if first == 0 else [WORDS[2], WORDS[0], *[w for i, w in enumerate(WORDS) if i not in (0, 2)]]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    number = {w: words.index(w) for w in ("<s>", "</s>", "<pad>")}
    if name == "roberta":
        # As XLM-RoBERTa's: two ends between the texts, and one segment.
        made.post_processor = processors.RobertaProcessing(
            ("</s>", number["</s>"]), ("<s>", number["<s>"]), trim_offsets=False, add_prefix_space=False
        )
    else:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[(t, number[t]) for t in ("<s>", "</s>")],
        )
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if name == "bert" else [])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=MAX_TOKENS,
        model_input_names=names,
    )
    return fast, number["<pad>"]


def main():
    torch.manual_seed(5)
    small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, vocab_size=len(WORDS), num_labels=1)
    distil = dict(dim=16, n_layers=2, n_heads=2, hidden_dim=40, vocab_size=len(WORDS), max_position_embeddings=64, num_labels=1)
    makers = {
        "bert": (0, lambda pad: BertForSequenceClassification(BertConfig(**small, max_position_embeddings=64))),
        "roberta": (
            1,
            lambda pad: RobertaForSequenceClassification(
                RobertaConfig(**small, max_position_embeddings=66, pad_token_id=pad, type_vocab_size=1)
            ),
        ),
        "distilbert": (0, lambda pad: DistilBertForSequenceClassification(DistilBertConfig(**distil))),
        "mpnet": (
            1,
            lambda pad: MPNetForSequenceClassification(MPNetConfig(**small, max_position_embeddings=66, pad_token_id=pad)),
        ),
    }
    for name, (first, make) in makers.items():
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        tokens, pad = tokenizer(name, first)
        model = make(pad).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # as trained ones are, and not all norms 1
                parameter.add_(torch.randn_like(parameter) * 0.2)
        if name == "roberta":
            # Scores are logits, as those of the MS MARCO models.
            model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        model.save_pretrained(folder)
        tokens.save_pretrained(folder)
        scores = CrossEncoder(folder, device="cpu").predict(PAIRS, batch_size=1)
        expected = [{"query": q, "document": d, "score": float(s)} for (q, d), s in zip(PAIRS, scores)]
        json.dump(expected, open(os.path.join(folder, "expected.json"), "w"))


main()
