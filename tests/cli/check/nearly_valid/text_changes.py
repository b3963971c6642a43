# SPDX-License-Identifier: Apache-2.0
"""Changes of a config's text, such as people, editors and templates make: each replaces, adds or removes one token."""

import re
from random import Random

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[A-Za-z_]\w*|-?\d[\w.+]*|\s+|.', re.DOTALL)
# A token of each kind → what replaces it; {} is the token without its quotes. Triton reads the first ones, and refuses
# most of the others.
_SAME = {
    "number": ("0x{}", "{},", "{} # comment\n"),
    "text": ("'{}'", '"" "{}"', "\"{}\" ''", "\n'{}'", '"{}";'),
    "name": ("{} ", "{}\t", "\r\n{}", "# ${{x}} \u200b\n{}"),
    "space": ("\t", "\r\n", "\f", "\v", " # comment\n", " # {{ \u00e9\n", "\n\n"),
    "mark": ("{} ", " {}", "\n{}", "{} # }}\n"),
}
_BROKEN = {
    "number": (
        "-{}", "+{}", "- {}", "0{}", "{}.0", "{}e0", "{}f", "{}u", '"{}"', "{}_0", "{} {}", "9{}",
        "99999999999999999999", "-", "nan", "${{n}}", "true",
    ),
    "text": (
        '"{}', '{}"', "{}", '"{}" "{}"', "\"{}' ", '"{}\\n"', '"{}\n"', '"{}\\x41"', '"{}\\q"', '"{}\\u00e9"',
        '"{}\u00e9"', '"{}\0"', '"{}\\000"', '"${{{}}}"', '" {}"', '"{} "', '"{}\u200b"', "8", "\u201c{}\u201d",
        '"{}/{}"',
    ),
    "name": (
        "{}_", "{}s", "1", "11", "99", '"{}"', "[{}]", "${{{}}}", "true", "True", "t", "TRUE", "{} {}", "{}:", "-{}",
        "{}\u200b", "TYPE_FP32", "TYPE_fp32", "FP32", "dims", "name", "nan",
    ),
    "space": (
        "\u00a0", "\u2028", "\ufeff", "\u200b", "\0", " // comment\n", " /* comment */ ", " , ", " ; ", "\x1a",
        "\x85", "",
    ),
    "mark": ("", "{}{}", " ", ",", ";", ":", "{{", "}}", "[", "]", "<", ">", "{},", ",{}", "{};", "#", "\\", "="),
}  # fmt: skip


def changed(chance: Random, text: str) -> str:
    """The text with one token changed, removed or doubled, or cut off before a token."""
    tokens = _TOKEN.findall(text or " ")
    at = chance.randrange(len(tokens))
    token = tokens[at]
    match chance.randrange(16):
        case 0:
            tokens[at:] = []
        case 1:
            del tokens[at]
        case 2:
            tokens.insert(at, token)
        case 3:
            tokens.insert(0, chance.choice(["\ufeff", "\n# comment\n", "\u00a0", " "]))
        case _:
            replacements = chance.choice([_SAME, _BROKEN])[_kind(token)]
            tokens[at] = chance.choice(replacements).format(*[token.strip('"')] * 2)
    return "".join(tokens)


def _kind(token: str) -> str:
    if token[0] == '"' and len(token) > 1:
        return "text"
    if token[-1].isdigit():
        return "number" if token.lstrip("-")[:1].isdigit() else "name"
    if token.isspace():
        return "space"
    return "name" if token[0].isalpha() else "mark"
