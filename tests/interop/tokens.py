"""Token counts against those of tiktoken: tokens.py TOKEN_COUNTS ROOT.

TIKTOKEN_CACHE_DIR has the encodings."""

import json
import random
import subprocess
import sys
from pathlib import Path

import tiktoken

# A model of each encoding.
MODELS = {
    "o200k_base": "gpt-5",
    "o200k_harmony": "gpt-oss-20b",
    "cl100k_base": "OpenAI/GPT-4",
    "p50k_base": "text-davinci-003",
    "r50k_base": "davinci",
}

SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it's 3.14159 o'clock, isn't it?",
    "Der Übergang über die Straße kostet 1.234,56 €, sagt die Bürgermeisterin.",
    "Où est passé l'élève qui n'aimait pas les œufs à la coque ?",
    "El pingüino pidió ñoquis en el café de la esquina, ¿verdad?",
    "O coração não é tão frágil quanto a canção diz.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "いろはにほへと ちりぬるを。東京は今日も雨です。",
    "我能吞下玻璃而不伤身体。人工智能正在改变世界。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني، ١٢٣٤٥.",
    "אני יכול לאכול זכוכית וזה לא מזיק לי.",
    "मैं काँच खा सकता हूँ, मुझे उससे कोई पीड़ा नहीं होती।",
    "আমি কাঁচ খেতে পারি, তাতে আমার কোনো ক্ষতি হয় না।",
    "நான் கண்ணாடி சாப்பிடுவேன், அதனால் எனக்கு ஒரு கேடும் வராது.",
    "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ",
    "Tôi có thể ăn thủy tinh mà không hại gì.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İIıi",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "მინას ვჭამ და არა მტკივა.",
    "Կրնամ ապակի ուտել և ինծի անհանգիստ չըներ։",
    "ខ្ញុំអាចញុំកញ្ចក់បាន ដោយគ្មានបញ្ហា",
    "မြန်မာစာ ကို စမ်းသပ်ခြင်း",
    "ⴰⵣⵓⵍ ᚠᛇᚻ 𐌰𐌱𐌲 𒀀𒁀 ᏣᎳᎩ",
]

ODD = [
    "",
    " ",
    "\n\n\n",
    "a \t\r\n b\u00a0\u3000c\u200b\ufeffd",
    "<|endoftext|>",
    "text <|endoftext|> more <|fim_prefix|><|im_start|>user<|im_end|>",
    "👩‍👩‍👧‍👦🏳️‍🌈🇺🇳👍🏽🫠😀" * 20,
    "e\u0301" * 50 + "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘" * 5,
    "=" * 3000,
    " " * 3000,
    "\n" * 3000,
    "ab" * 2000,
    "0123456789" * 300,
    "I'M HE'LL they'Ve don'T ſ'ſ K",
]


def corpus(root: Path) -> dict[str, list[str]]:
    source = [root / "src/lib.rs", root / "tests/interop/run", root / "tests/interop/checks.mjs"]
    source += [root / "tests/interop/tokens.py", root / "Cargo.toml", root / "CHANGELOG.md"]
    code = [path.read_text() for path in source]
    data = [{"id": n, "name": f"row {n}", "tags": ["ä", "b\n"], "x": n / 7} for n in range(200)]
    rng = random.Random(5)
    noise = [rng.randbytes(rng.randrange(400)) for _ in range(300)]
    points = [n for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    pieces = [" ", "\n", "'s", "the", "日", "é", "1", "=", "😀", "\t", "A", "_", "\u0301", "/"]
    return {
        "languages": SENTENCES + [" ".join(SENTENCES), "\n".join(SENTENCES * 10)],
        "odd texts": ODD,
        "code": code,
        "JSON": [json.dumps(data), json.dumps(data, indent=2), json.dumps(data, ensure_ascii=False)],
        "random bytes": [b.decode("utf-8", "replace") for b in noise]
        + [b.decode("latin-1") for b in noise],
        "random characters": ["".join(map(chr, rng.sample(points, 60))) for _ in range(300)],
        "random pieces": ["".join(rng.choices(pieces, k=80)) for _ in range(600)],
    }


def main() -> None:
    program, root = sys.argv[1], Path(sys.argv[2])
    rng = random.Random(7)
    texts = corpus(root)
    asked = [
        {"model": model, "text": text, "limit": rng.randrange(40)}
        for model in MODELS.values()
        for kind in texts.values()
        for text in kind
    ]
    lines = "".join(json.dumps(one) + "\n" for one in asked)
    ran = subprocess.run([program], input=lines, capture_output=True, text=True, timeout=300)
    if ran.returncode:
        sys.exit(ran.stderr)
    answers = iter([json.loads(line) for line in ran.stdout.splitlines()])
    limits = iter(asked)
    for encoding in MODELS:
        tokens = tiktoken.get_encoding(encoding)
        for kind, of_kind in texts.items():
            wrong = []
            for text in of_kind:
                said, limit = next(answers), next(limits)["limit"]
                count = len(tokens.encode_ordinary(text))
                # Raises for half a character.
                start = text.encode()[: said["prefix"]].decode()
                is_right = (
                    said["count"] == count
                    and said["up_to"] == (count if count <= limit else None)
                    and len(tokens.encode_ordinary(start)) <= limit
                    and (count > limit or start == text)
                )
                if not is_right:
                    wrong.append((text[:60], count, limit, said))
            name = f"{encoding} counts {len(of_kind)} texts as tiktoken does: {kind}"
            print(f"FAIL {name}: {len(wrong)} wrong: {wrong[:2]}" if wrong else f"ok {name}")


main()
