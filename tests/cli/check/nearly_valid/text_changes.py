# SPDX-License-Identifier: Apache-2.0
"""Changes of a config's text, such as people, editors and templates make: each replaces, adds or removes one token."""

import re

from hypothesis import strategies as st

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[A-Za-z_]\w*|-?\d[\w.+]*|\s+|.', re.DOTALL)
# A token of each kind → what replaces it. {} is the token, without its quotes.
_REPLACEMENTS = {
    "number": (
        "-{}", "+{}", "- {}", "0{}", "0x{}", "{}.0", "{}e0", "{}f", "{}u", '"{}"', "{}_0", "{},", "{} {}", "9{}",
        "99999999999999999999", "-", "nan", "${{n}}", "true",
    ),
    "text": (
        "'{}'", '"{}', '{}"', "{}", '"{}" "{}"', "\"{}' ", '"{}\\n"', '"{}\n"', '"{}\\x41"', '"{}\\q"', '"{}\\u00e9"',
        '"{}\u00e9"', '"{}\0"', '"{}\\000"', '"${{{}}}"', '" {}"', '"{} "', '"{}\u200b"', "8", "\u201c{}\u201d",
        '"{}/{}"',
    ),
    "name": (
        "{}_", "{}s", "1", "11", "99", '"{}"', "[{}]", "${{{}}}", "true", "True", "t", "TRUE", "{} {}", "{}:", "-{}",
        "{}\u200b", "TYPE_FP32", "TYPE_fp32", "FP32", "dims", "name", "nan",
    ),
    "space": (
        "\u00a0", "\u2028", "\ufeff", "\u200b", "\t", "\r\n", "\f", "\v", "\0", " # comment\n", " # {{ \u00e9\n",
        " // comment\n", " /* comment */ ", " , ", " ; ", "\x1a", "\x85", "",
    ),
    "mark": ("", "{}{}", " ", ",", ";", ":", "{{", "}}", "[", "]", "<", ">", "{},", ",{}", "{};", "#", "\\", "=",),
}  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """The text with one token changed, removed or doubled, or cut off after a token."""
    tokens = _TOKEN.findall(text or " ")
    at = draw(st.integers(0, len(tokens) - 1))
    token = tokens[at]
    match draw(st.integers(0, 15)):
        case 0:
            tokens[at:] = []
        case 1:
            tokens[at:] = tokens[at + 1 :]
        case 2:
            tokens.insert(at, token)
        case 3:
            tokens.insert(0, draw(st.sampled_from(["\ufeff", "\n# comment\n", "\u00a0", " "])))
        case _:
            replacements = st.sampled_from(_REPLACEMENTS[_kind(token)])
            tokens[at] = draw(replacements).format(*[token.strip('"')] * 2)
    return "".join(tokens)


def _kind(token: str) -> str:
    if token[0] == '"' and len(token) > 1:
        return "text"
    if token[-1].isdigit():
        return "number" if token.lstrip("-")[:1].isdigit() else "name"
    if token.isspace():
        return "space"
    return "name" if token[0].isalpha() else "mark"
