# SPDX-License-Identifier: Apache-2.0
"""multipart/form-data (RFC 7578). Rejects incomplete forms and unknown charsets, and drops no part."""

import re
from dataclasses import dataclass, replace

import pybase64
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fastapi_triton.core.errors import UnreadableRequestError, UnsupportedMediaError, invalid_field, shown

# Charsets of a form's texts → Python's names. Python has codecs that are not charsets, and some fail in odd ways.
_CHARSETS = {
    **dict.fromkeys(("utf-8", "utf8"), "utf-8"),
    **dict.fromkeys(("us-ascii", "ascii"), "ascii"),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin-1", "latin1"), "latin-1"),
}
# The field with the charset of all texts: RFC 7578, 4.6.
_CHARSET_FIELD = "_charset_"
# Encodings that change nothing; RFC 7578, 4.7, deprecates all others.
_TRANSFER_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")
# RFC 7578 forbids it, but clients send it where a file's name is not ASCII.
_EXTENDED_FILE_NAME = re.compile(rb";\s*filename\*\s*=", re.IGNORECASE)
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: a text field, or a file. `charset` is "" if the part has none of its own."""

    name: str
    data: bytes | bytearray
    charset: str
    is_file: bool

    def text(self) -> str:
        """The part as text. A file's byte order mark is removed.

        Raises:
            InvalidRequestError: it is not text in its charset.
        """
        charset = self.charset or "utf-8"
        try:
            text = self.data.decode(charset)
        except UnicodeDecodeError:
            what, hint = ("the file", "") if self.is_file else ("the text", " A file needs a filename in its part.")
            detail = (
                f"`{shown(self.name)}`: {what} is not valid {charset.upper()}. Send binary data as base64 text.{hint}"
            )
            raise invalid_field(self.name, "invalid_text", detail) from None
        return text.removeprefix(_BYTE_ORDER_MARK) if self.is_file else text

    def base64(self) -> str:
        """The part's bytes as base64 text."""
        return pybase64.b64encode_as_string(self.data)


def read(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """The parts of a form, in order. `content_type` is the request's header, which has the boundary.

    Raises:
        UnreadableRequestError: the form is incomplete, or has more than `max_parts` parts.
        UnsupportedMediaError: its texts have a charset that is not supported.
    """
    options = _options(content_type.encode("latin-1"))
    charset = _known(options.get(b"charset") or b"utf-8")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _unreadable("its Content-Type has no boundary")
    form = _Form(max_parts)
    try:
        MultipartParser(boundary, form.callbacks).write(body)  # type: ignore[arg-type]
    except FormParserError as error:
        if str(error).startswith("Expected boundary"):
            line = shown(f"--{boundary.decode('latin-1')}")
            raise _unreadable(f"its parts do not begin with its boundary, {line}") from None
        raise _unreadable(shown(str(error))) from None
    if not form.is_whole:
        raise _unreadable("it ends before its closing boundary; send the whole form")
    if _after_end(body, boundary).strip():
        raise _unreadable("it has data after its closing boundary")
    return _in_charset(form.parts, charset)


def _after_end(body: bytes, boundary: bytes) -> bytes:
    """Data after the closing boundary. RFC 2046 says to ignore it, but then a part could be lost."""
    end = b"--" + boundary + b"--"
    if body.startswith(end):
        return body[len(end) :]
    end = b"\r\n" + end
    at = body.find(end)
    return body[at + len(end) :] if at >= 0 else b""  # `partition` would copy the data before it


def _in_charset(parts: list[Part], charset: str) -> list[Part]:
    """The parts, each with its own charset or the form's, and without the field that names the form's charset."""
    for part in parts:
        if part.name == _CHARSET_FIELD:
            charset = _known(part.data)
    return [replace(part, charset=part.charset or charset) for part in parts if part.name != _CHARSET_FIELD]


def _known(charset: bytes | bytearray) -> str:
    name = charset.decode("latin-1").strip().lower()
    if name not in _CHARSETS:
        raise UnsupportedMediaError(f"The form's charset is {shown(name)}. Use UTF-8, US-ASCII or ISO-8859-1.")
    return _CHARSETS[name]


def _options(header: bytes) -> dict[bytes, bytes]:
    """The parameters of a header."""
    return parse_options_header(header.decode("latin-1"))[1]


def _unreadable(reason: str) -> UnreadableRequestError:
    return UnreadableRequestError(f"The form cannot be read: {reason}.", code="invalid_form")


class _Form:
    """Collects the parts that the parser finds."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.is_whole = False
        self._max_parts = max_parts
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()
        self._part = Part("", b"", "", is_file=False)

    @property
    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self._max_parts:
            raise _unreadable(f"it has more than {self._max_parts} parts, but the endpoint has fewer fields")
        self._headers = {}
        self._data = bytearray()

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        options = _options(disposition)
        try:
            name = options[b"name"].decode()
        except (KeyError, UnicodeDecodeError):
            raise _unreadable("a part's Content-Disposition has no `name` in UTF-8") from None
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding not in _TRANSFER_ENCODINGS:
            raise _unreadable(
                f"the part `{shown(name)}` has the Content-Transfer-Encoding {shown(encoding.decode('latin-1'))}; "
                "send it without one"
            )
        charset = _options(self._headers.get(b"content-type", b"")).get(b"charset")
        is_file = b"filename" in options or _EXTENDED_FILE_NAME.search(disposition) is not None
        self._part = Part(name, b"", _known(charset) if charset else "", is_file)

    def _end(self) -> None:
        self.parts.append(replace(self._part, data=self._data))

    def _finish(self) -> None:
        self.is_whole = True
