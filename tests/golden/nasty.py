"""Texts on which tokenizers differ, by what is nasty about them."""

LONG = "pneumonoultramicroscopicsilicovolcanoconiosis" * 12
TEXTS = {
    "indentation": "def f(x):\n    if x:\n        return  x\n\treturn\t\tx\n"
    + " " * 20
    + "deep",
    "space runs": "a  b   c    d" + " " * 17 + "e" + " " * 40 + "f",
    "leading and trailing spaces": "  two spaces  ",
    "one leading space": " one",
    "only spaces": "   ",
    "tabs": "\t\t\tx\t \ty \t",
    "newline runs": "a\nb\n\nc\n\n\n\nd\n \n  \n\t\ne\n",
    "carriage returns": "line\r\nnext\r\n\r\n  last\r",
    "digits": "0 12 345 6789 1234567890 3.14159 1,000,000 -7 x2y3 10% ½ ² ٣٤",
    "formulas": r"\frac{1}{2}+x^{10} \times (3-4)=-1 <= >= != ==> "
    r"$\sqrt{2}$ **bold** ``code``",
    "contractions": "I'm we're it's don't THEY'LL we'Ve I'D 'tis ' s ’s l'été",
    "punctuation": 'Wait... what?!  (yes)--no; "quoted" [a][b] {c} '
    "#!/bin/sh a/b\\c @x_y",
    "emoji": "ok 👍 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 ❤️ 😀😀",
    "CJK": "日本語のテキスト。中文字符,한국어 텍스트 １２３",
    "combining marks": "e\u0301 é n\u0303 ñ Z\u0351\u036b\u0343 "
    "가 \u1100\u1161 ﬁ Å \u212b",
    "right to left": "שלום עולם مرحبا بالعالم हिन्दी ไทย",
    "special tokens in text": "<|im_start|>user\nhi<|im_end|> <bos><eos><s></s> "
    "<start_of_turn>x<|eot_id|> [INST]",
    "thinking": "<think>\n\nso 7\n</think>\n\n<answer>7</answer> <unk><pad>",
    "odd blanks": "a\u00a0b\u2003c\u200bd\u3000e\ufefff \u2028 g\u0085h",
    "control characters": "a\x00b\x07c\x1b[0m\x7f",
    "byte fallback": "𝔘𝔫𝔦 ꙮ 🜁 \U0001f9ff \ue000",
    "spelled spaces": "▁▁a▁b ▁",
    "a very long word": f"{LONG} {'é' * 300} {'1' * 200}",
    "URL": "https://example.org/a_b?c=d&e=%20f#g-1.2.3",
    "empty": "",
}
