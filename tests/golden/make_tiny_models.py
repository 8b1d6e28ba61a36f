"""Makes the tiny CLIP and T5 models of the tests and what transformers computes with them.

Random weights from a fixed seed, stored as 16-bit floats; no downloads. Run in an environment with
    pip install torch transformers tokenizers safetensors pillow numpy
as
    python tests/golden/make_tiny_models.py
It writes clip/, t5/, t5_gated/, images/ and the expected values in *.json beside itself. The committed files were made with
torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3, pillow 13.0.0.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

HERE = Path(__file__).resolve().parent
CORPUS = [
    "a photo of a cat on a red sofa", "two dogs run along the beach", "the quick brown fox jumps over the lazy dog",
    "translate English to German: the house is wonderful", "summarize: the server keeps the rows of a table in pages",
    "question: what is a vector? answer: a list of numbers", "parcels are late today, please be patient",
    "café déjà vu, naïve façade, über straße", "0 1 2 3 4 5 6 7 8 9 and some more numbers 10 11 12",
]


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def randomise(model, seed, scale, dtype=torch.float16):
    """Weights large enough that every part of the model shows in the output, exact in `dtype`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * scale(name, parameter)
            if "norm" in name and name.endswith("weight"):
                values = values + 1.0
            parameter.copy_(values.to(dtype).float())


def save(model, folder, dtype, drop=()):
    tensors = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items() if k not in drop}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def rounded(tensor):
    return [float(f"{x:.7g}") for x in tensor.flatten().tolist()]


def images():
    """Of every kind that browsers and cameras write; sizes are not those of the model."""
    folder = fresh("images")
    y, x = np.mgrid[0:40, 0:61]
    rgb = np.stack([x * 4, y * 6, (x * y) % 256], axis=-1).astype(np.uint8)
    colour = Image.fromarray(rgb, "RGB")
    alpha = np.concatenate([rgb, ((x + y) * 2).astype(np.uint8)[..., None]], axis=-1)
    colour.save(folder / "wide.png", optimize=True)
    Image.fromarray(alpha, "RGBA").save(folder / "alpha.png", optimize=True)
    colour.transpose(Image.Transpose.ROTATE_90).convert("L").save(folder / "tall_grey.png", optimize=True)
    colour.quantize(16).save(folder / "palette.png", optimize=True)
    colour.quantize(8).save(folder / "palette.gif", optimize=True)
    colour.convert("1").save(folder / "bits.png", optimize=True)
    colour.save(folder / "wide.jpg", quality=90, subsampling=0)
    colour.convert("L").save(folder / "grey.jpg", quality=90)
    colour.save(folder / "lossless.webp", lossless=True)
    Image.fromarray(rgb[:5, :7], "RGB").save(folder / "small.png", optimize=True)
    return sorted(folder.iterdir())


def clip():
    folder = fresh("clip")
    # Every byte as itself and at a word's end, as the real vocabulary begins; the tests' texts use few of them.
    letters = sorted({c for text in CORPUS for c in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)[0][0]}
                     | set("abcdefghijklmnopqrstuvwxyz0123456789.,!?:'-"))
    pairs = [("t", "h"), ("th", "e</w>"), ("o", "f</w>"), ("p", "h"), ("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("o", "n</w>")]
    words = letters + [c + "</w>" for c in letters] + [a + b for a, b in pairs] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=20)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    config = CLIPConfig(
        text_config=dict(vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=20, hidden_act="quick_gelu",
                         bos_token_id=vocabulary["<|startoftext|>"], eos_token_id=2),
        vision_config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                           image_size=32, patch_size=8, hidden_act="quick_gelu"),
        projection_dim=12,
    )
    model = CLIPModel(config).eval()
    randomise(model, 1, lambda name, p: 0.1 if p.ndim < 2 else 0.5 if "embedding" in name else 1.2 / p.shape[-1] ** 0.5)
    config.save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    save(model, folder, torch.float16, drop=("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"))

    texts = ["a photo of a cat", "the dog", "A  PHOTO of\nthe cat!", "x", "cat<|endoftext|>dog", "café 42"]
    expected = {"texts": [], "images": []}
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt").input_ids
            features = model.get_text_features(input_ids=ids).pooler_output
            vector = features / features.norm(dim=-1, keepdim=True)
            expected["texts"].append({"text": text, "ids": ids[0].tolist(), "vector": rounded(vector)})
        for path in images():
            pixels = processor(images=Image.open(path), return_tensors="pt").pixel_values
            features = model.get_image_features(pixel_values=pixels).pooler_output
            vector = features / features.norm(dim=-1, keepdim=True)
            expected["images"].append({"file": path.name, "pixels": rounded(pixels[0, :, 15:17, ::5]), "vector": rounded(vector)})
    write(HERE / "clip.json", expected)


def t5_tokenizer():
    # Not trained: the trainer's result depends on the order of a hash map.
    words = "the of a is to and translate sum mar ize question server table row page list number in on th er an en es ou".split()
    pieces = ["\u2581", *("\u2581" + word for word in words[:18]), *words[18:]]
    pieces += sorted({c for text in CORPUS for c in text if c != " "})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0 - i / 16) for i, piece in enumerate(pieces))]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def t5(name, seed, dtype, **config):
    folder = fresh(name)
    tokenizer = t5_tokenizer()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    tied = config.get("tie_word_embeddings", True)
    config = T5Config(vocab_size=len(tokenizer) + 5, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=3,
                      decoder_start_token_id=0, n_positions=64, **config)
    model = T5ForConditionalGeneration(config).eval()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.shared.weight))
    randomise(model, seed, lambda name, p: 0.1 if p.ndim < 2 else 2.0 if "relative" in name else 0.8 if "shared" in name else 2.0 / p.shape[-1] ** 0.5, dtype)
    written = config.to_dict()
    written["tie_word_embeddings"] = tied
    write(folder / "config.json", written)
    write(folder / "generation_config.json", {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0})
    save(model, folder, dtype, drop=("encoder.embed_tokens.weight", "decoder.embed_tokens.weight") + (("lm_head.weight",) if tied else ()))

    prompts = ["translate English to German: the house is wonderful", "summarize: rows", "a", "question: what is a vector?",
               "the server keeps the rows of a table in pages, and the pages in a file, and more"]
    expected = []
    with torch.no_grad():
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=60, use_cache=False,
                                 return_dict_in_generate=True, output_scores=True)
            produced = out.sequences[0][1:].tolist()
            # How sure each step was: the largest logit, and its distance to the next, below which rounding decides.
            tops = [torch.topk(score[0], 2).values for score in out.scores]
            expected.append({
                "prompt": prompt, "ids": ids[0].tolist(), "generated": produced,
                "text": tokenizer.decode(produced, skip_special_tokens=True),
                "largest": [float(f"{t[0]:.6g}") for t in tops],
                "margin": float(f"{min(float(t[0] - t[1]) for t in tops):.3g}"),
            })
    write(HERE / f"{name}.json", expected)
    print(name, [(len(e["generated"]), e["margin"], e["generated"][-1] == 1, len(set(e["generated"]))) for e in expected])


if __name__ == "__main__":
    clip()
    t5("t5", 2, torch.float16)
    t5("t5_gated", 1, torch.bfloat16, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
