# SPDX-License-Identifier: Apache-2.0
"""The tokens of a `config.pbtxt`, as Triton's protobuf library in C++ reads them.

Python's own protobuf library reads more: other Unicode whitespace, digits of other scripts, `+8`, `1_000`.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

_BLANK = re.compile(r"(?:[ \t\n\v\f\r]|#[^\n\0]*)*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|0[0-9]+|(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][+-]?[0-9]*)?[fF]?")
_PLACEHOLDER = re.compile(r"\$\{[^{}\n]*\}")
_ESCAPE = r"""\\(?:[abfnrtv\\?'"]|[0-7]{1,3}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U00[01][0-9a-fA-F]{5})"""
# A string without its closing quote.
_OPEN_STRING = {quote: re.compile(rf"{quote}(?:[^\\\n\0{quote}]|{_ESCAPE})*") for quote in "\"'"}
_CHARACTERS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_INVALID_ESCAPES = {
    "x": "Expected hex digits for escape sequence.",
    "u": "Expected four hex digits for \\u escape sequence.",
    "U": "Expected eight hex digits up to 10ffff for \\U escape sequence",
}


class TextFormatError(Exception):
    """The text is not valid. The reason has the words of Triton's log; line and column count from 1."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        self.line, self.column, self.reason = line, column, reason.rstrip(".")
        super().__init__(f"{line}:{column}: {self.reason}")


class Kind(Enum):
    """The kinds of tokens. A `${placeholder}` is one symbol, which is valid nowhere."""

    IDENTIFIER = auto()
    INTEGER = auto()
    FLOAT = auto()
    STRING = auto()
    SYMBOL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its text as written, and the line and column of its first character."""

    kind: Kind
    text: str
    line: int
    column: int

    def error(self, reason: str) -> TextFormatError:
        return TextFormatError(self.line, self.column, reason)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of the text, and then one of the kind END.

    Bytes that are not UTF-8 must be surrogates, as `decode(errors="surrogateescape")` makes them.

    Raises:
        TextFormatError: a token is invalid.
    """
    position, line, line_start, previous = 0, 1, 0, Token(Kind.END, "", 1, 1)
    while True:
        blank = _matched(_BLANK, text, position)
        line += blank.count("\n")
        if "\n" in blank:
            line_start = position + blank.rindex("\n") + 1
        position += len(blank)
        column = position - line_start + 1
        if position == len(text):
            yield Token(Kind.END, "", line, column)
            return
        token = _token(text, position, line, column)
        if not blank and previous.kind is Kind.IDENTIFIER and token.text[0] == "." and token.kind is Kind.FLOAT:
            raise token.error("Need space between identifier and decimal point.")
        yield token
        position += len(token.text)
        previous = token


def string_value(literal: str) -> bytes:
    """The value of a string literal, with its escape sequences replaced."""
    return re.sub(
        rb"(?:\\u[0-9a-fA-F]{4})+|\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|U[0-9a-fA-F]{8}|.)",
        _unescaped,
        literal[1:-1].encode("utf-8", "surrogateescape"),
        flags=re.DOTALL,
    )


def _token(text: str, position: int, line: int, column: int) -> Token:
    """The token that starts at the position."""
    character = text[position]
    at = Token(Kind.SYMBOL, character, line, column)
    if character in _OPEN_STRING:
        return Token(Kind.STRING, _string(text, position, at), line, column)
    if identifier := _matched(_IDENTIFIER, text, position):
        return Token(Kind.IDENTIFIER, identifier, line, column)
    if number := _matched(_NUMBER, text, position):
        end = position + len(number)
        return Token(_kind_of_number(number, text[end : end + 1], at), number, line, column)
    if placeholder := _matched(_PLACEHOLDER, text, position):
        return Token(Kind.SYMBOL, placeholder, line, column)
    if character < " " or character == "\x7f":
        raise at.error(f"Invalid control characters encountered in text: {_named(character)}")
    if character > "\x7f":
        first_byte = character.encode("utf-8", "surrogateescape")[0]
        raise at.error(f"Interpreting non ascii codepoint {first_byte}: {_named(character)}")
    return at


def _string(text: str, position: int, at: Token) -> str:
    quote = text[position]
    literal = _matched(_OPEN_STRING[quote], text, position)
    end = position + len(literal)
    match text[end : end + 1]:
        case "\n":
            raise at.error("String literals cannot cross line boundaries.")
        case "\\":
            reason = _INVALID_ESCAPES.get(text[end + 1 : end + 2], "Invalid escape sequence in string literal.")
            raise TextFormatError(at.line, at.column + len(literal), reason)
        case "" | "\0":
            raise at.error("Unexpected end of string.")
    return literal + quote


def _kind_of_number(number: str, following: str, at: Token) -> Kind:
    """The kind of a number. `following` is the character after it."""
    is_hex, is_octal = number[:2] in ("0x", "0X"), re.fullmatch("0[0-9]+", number) is not None
    if is_hex and len(number) == 2:
        raise at.error('"0x" must be followed by hex digits.')
    if is_octal and re.search("[89]", number):
        raise at.error("Numbers starting with leading zero must be in octal.")
    if not is_hex and re.search("[eE][+-]?[fF]?$", number):
        raise at.error('"e" must be followed by exponent.')
    if _IDENTIFIER.match(following):
        raise at.error("Need space between number and identifier.")
    is_float = not is_hex and re.search("[.eEfF]", number) is not None
    if following == ".":
        raise at.error(
            "Already saw decimal point or exponent; can't have another one."
            if is_float
            else "Hex and octal numbers must be integers."
        )
    return Kind.FLOAT if is_float else Kind.INTEGER


def _matched(pattern: re.Pattern[str], text: str, position: int) -> str:
    found = pattern.match(text, position)
    return found[0] if found else ""


def _named(character: str) -> str:
    """A character that is invisible, or looks like another one: `U+00A0 NO-BREAK SPACE`."""
    if "\ud800" <= character <= "\udfff":
        return "the file is not UTF-8"
    return f"U+{ord(character):04X} {unicodedata.name(character, '(a control character)')}"


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = (escape[1] or b"u").decode("utf-8", "replace")
    match code[0]:
        case "u":  # one or more units of UTF-16
            units = bytes.fromhex(escape[0].replace(rb"\u", b"").decode())
            return units.decode("utf-16-be", "replace").encode()
        case "U":
            number = int(code[1:], 16)
            return chr(number).encode("utf-8", "surrogatepass") if number <= 0x10FFFF else escape[0]
        case "x":
            return bytes([int(code[1:], 16)])
        case digit if digit in "01234567":
            return bytes([int(code, 8) & 0xFF])
    return _CHARACTERS.get(code, code).encode()
