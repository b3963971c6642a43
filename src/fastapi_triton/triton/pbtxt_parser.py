# SPDX-License-Identifier: Apache-2.0
"""Parses a `config.pbtxt` into a protobuf message, by the rules and with the errors of Triton's library in C++."""

import contextlib
from typing import Any

from fastapi_triton.core.suggestions import nearest
from fastapi_triton.triton.pbtxt_tokenizer import Kind, TextFormatError, Token, string_value, tokens

# protobuf's numbers for the types of fields.
INT32, INT64, UINT32, UINT64, DOUBLE, FLOAT, BOOL, ENUM, STRING = range(1, 10)
_MAXIMUM = {INT32: 2**31 - 1, INT64: 2**63 - 1, UINT32: 2**32 - 1, UINT64: 2**64 - 1}
_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
# The names of datatypes in numpy, PyTorch and Triton's own HTTP API → those of configs.
_OTHER_DATATYPES = {
    "BYTES": "TYPE_STRING",
    **dict.fromkeys(("HALF", "FLOAT16"), "TYPE_FP16"),
    **dict.fromkeys(("FLOAT", "FLOAT32"), "TYPE_FP32"),
    **dict.fromkeys(("DOUBLE", "FLOAT64"), "TYPE_FP64"),
    "INT": "TYPE_INT32",
    "LONG": "TYPE_INT64",
}


def parse(text: str, message: Any) -> None:
    """Fill an empty message.

    Raises:
        TextFormatError: the text is not valid.
    """
    _Parser(text).parse(message)


class _Parser:
    """Reads one text. `_token` is the next token."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._token = next(self._tokens)

    def parse(self, message: Any) -> None:
        while self._token.kind is not Kind.END:
            self._field(message)

    def _field(self, message: Any) -> None:
        name = self._take(Kind.IDENTIFIER)
        fields = message.DESCRIPTOR.fields_by_name
        field = fields.get(name.text)
        if field is None:
            known = nearest(name.text, fields)
            raise name.error(f'Message type "{message.DESCRIPTOR.full_name}" has no field named "{name.text}"{known}')
        _refuse_repetition(message, field, name)
        if field.message_type is None:
            self._expect(":")
        else:
            self._skip(":")
        if field.is_repeated and self._skip("["):
            if not self._skip("]"):
                self._value(message, field)
                while not self._skip("]"):
                    self._expect(",")
                    self._value(message, field)
        else:
            self._value(message, field)
        if not self._skip(";"):
            self._skip(",")

    def _value(self, message: Any, field: Any) -> None:
        """Read one value, and set it or append it."""
        if field.message_type is None:
            value = self._scalar(field)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            entry = entries.GetEntryClass()()
            self._message(entry)
            if field.message_type.fields_by_name["value"].message_type is None:
                entries[entry.key] = entry.value
            else:
                entries[entry.key].CopyFrom(entry.value)
        else:
            inner = getattr(message, field.name)
            inner = inner.add() if field.is_repeated else inner
            inner.SetInParent()
            self._message(inner)

    def _message(self, message: Any) -> None:
        opening = self._token
        closing = ">" if self._skip("<") else "}"
        if closing == "}":
            self._expect("{")
        while self._token.text not in (">", "}"):
            if self._token.kind is Kind.END:
                raise self._token.error(
                    f'Expected "{closing}", found the end of the file; the `{opening.text}` of line {opening.line}, '
                    f"column {opening.column} is not closed"
                )
            self._field(message)
        self._expect(closing)

    def _scalar(self, field: Any) -> Any:
        kind = field.cpp_type
        if kind in _MAXIMUM:
            return self._integer(_MAXIMUM[kind], is_signed=kind in (INT32, INT64))
        if kind in (FLOAT, DOUBLE):
            return self._float()
        if kind == BOOL:
            return self._bool(field)
        return self._enum(field) if kind == ENUM else self._string()

    def _integer(self, maximum: int, *, is_signed: bool) -> int:
        sign = -1 if is_signed and self._skip("-") else 1
        token = self._take(Kind.INTEGER)
        base = 16 if token.text[:2] in ("0x", "0X") else 8 if token.text[0] == "0" else 10
        with contextlib.suppress(ValueError):  # Python limits the digits of a decimal
            value = int(token.text, base)
            if value <= maximum + (sign < 0):
                return sign * value
        raise token.error(f"Integer out of range ({_shown(token)})")

    def _float(self) -> float:
        sign = -1 if self._skip("-") else 1
        token = self._token
        match token.kind:
            case Kind.INTEGER if len(token.text) > 1 and token.text[0] == "0":
                raise token.error(f"Expect a decimal number, got: {token.text}")
            case Kind.INTEGER | Kind.FLOAT:
                value = float(token.text.rstrip("fF"))
            case Kind.IDENTIFIER if token.text.lower() in ("inf", "infinity", "nan"):
                value = float(token.text)
            case _:
                raise _unexpected("double", token)
        self._next()
        return sign * value

    def _bool(self, field: Any) -> bool:
        if self._token.kind is Kind.INTEGER:
            return bool(self._integer(1, is_signed=False))
        token = self._take(Kind.IDENTIFIER)
        if token.text not in _BOOLS:
            raise token.error(f'Invalid value for boolean field "{field.name}". Value: "{token.text}"')
        return _BOOLS[token.text]

    def _enum(self, field: Any) -> int:
        token, values = self._token, field.enum_type.values_by_name
        if token.kind is Kind.INTEGER or token.text == "-":
            return self._integer(_MAXIMUM[INT32], is_signed=True)  # Triton accepts unknown numbers
        if token.kind is not Kind.IDENTIFIER:
            raise _unexpected("integer or identifier", token)
        if token.text not in values:
            name = token.text.upper()
            known = nearest(_OTHER_DATATYPES.get(name.removeprefix("TYPE_"), name), values)
            raise token.error(f'Unknown enumeration value of "{token.text}" for field "{field.name}"{known}')
        self._next()
        return int(values[token.text].number)

    def _string(self) -> str:
        value = string_value(self._take(Kind.STRING).text)
        while self._token.kind is Kind.STRING:
            value += string_value(self._take(Kind.STRING).text)
        return value.decode("utf-8", "replace")

    def _next(self) -> None:
        self._token = next(self._tokens)

    def _take(self, kind: Kind) -> Token:
        """The next token, which must be of the kind."""
        token = self._token
        if token.kind is not kind:
            raise _unexpected(kind.name.lower(), token)
        self._next()
        return token

    def _skip(self, symbol: str) -> bool:
        """Skip the next token if it is the symbol. Returns whether it was."""
        if self._token.text != symbol:
            return False
        self._next()
        return True

    def _expect(self, symbol: str) -> None:
        if not self._skip(symbol):
            found = _shown(self._token, quote='"')
            raise self._token.error(f'Expected "{symbol}", found {found}')


def _refuse_repetition(message: Any, field: Any, name: Token) -> None:
    """Fields that are not repeated, and the members of a oneof, may be set once."""
    if field.is_repeated:
        return
    if message.HasField(field.name) if field.has_presence else getattr(message, field.name) != field.default_value:
        raise name.error(f'Non-repeated field "{name.text}" is specified multiple times.')
    choice = field.containing_oneof
    other = message.WhichOneof(choice.name) if choice is not None else None
    if other is not None:
        raise name.error(
            f'Field "{name.text}" is specified along with field "{other}", another member of oneof "{choice.name}".'
        )


def _unexpected(expected: str, token: Token) -> TextFormatError:
    return token.error(f"Expected {expected}, got: {_shown(token)}")


def _shown(token: Token, quote: str = "") -> str:
    if token.kind is Kind.END:
        return "the end of the file"
    text = token.text if len(token.text) <= 100 else f"{token.text[:100]}…"
    is_placeholder = token.kind is not Kind.IDENTIFIER and "${" in text
    return f"{quote}{text}{quote}{', a placeholder that was never filled in' if is_placeholder else ''}"
