# SPDX-License-Identifier: Apache-2.0
"""Parses `config.pbtxt` into the dict that a running server returns for it, so that one reader serves both.

The fields are Triton's own: the protobuf definitions of `tritonclient`. They need grpcio, which the slim frontend does
not install, so this is an extra. Nothing is auto-completed as at load time, except a missing name.
"""

from pathlib import Path
from typing import Any

from fastapi_triton.triton import pbtxt_parser
from fastapi_triton.triton.pbtxt_tokenizer import TextFormatError

# protobuf's JSON writes 64-bit integers, infinity and NaN as text.
_NUMBERS = {pbtxt_parser.INT64: int, pbtxt_parser.UINT64: int, pbtxt_parser.FLOAT: float, pbtxt_parser.DOUBLE: float}
# Configs have a few thousand bytes. Some rules take quadratic time, for example for millions of dims.
_MAX_BYTES = 1024 * 1024


class ConfigTextError(Exception):
    """The config.pbtxt is invalid or cannot be read. The message is for people."""


def read(path: Path) -> dict[str, Any]:
    """A `config.pbtxt` as `GET /v2/models/<name>/config` would return it. A missing name is the folder's.

    Raises:
        ConfigTextError: the config is invalid. The message has file, line, column and reason.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        path.parent.name.encode()
    except OSError as error:
        raise ConfigTextError(f"{path} cannot be read: {error}") from None
    except UnicodeEncodeError:  # Triton loads the model, but no request can name it
        raise ConfigTextError(f"{path}: the name of its folder is not UTF-8") from None
    if len(content) > _MAX_BYTES:
        raise ConfigTextError(f"{path} has over {_MAX_BYTES:,} bytes")
    text = content.decode("utf-8", "surrogateescape")  # strings and comments may have any bytes
    config = parse(text, source=str(path))
    config["name"] = config["name"] or path.parent.name  # as Triton does
    return config


def parse(text: str, *, source: str = "config.pbtxt") -> dict[str, Any]:
    """The dict for a config's text: enums by name, 64-bit integers as numbers, defaults included.

    Raises:
        ConfigTextError: the config is invalid. The message has source, line, column and reason.
    """
    model_config_pb2 = definitions()
    from google.protobuf import json_format

    message = model_config_pb2.ModelConfig()
    try:
        pbtxt_parser.parse(text, message)
    except TextFormatError as error:
        raise ConfigTextError(f"{source}:{error}") from None
    config: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _numbers(config, message.DESCRIPTOR)
    return config


def definitions() -> Any:
    """Triton's protobuf definitions.

    Raises:
        ConfigTextError: the extra is not installed. The message says how to install it.
    """
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise ConfigTextError(
            f"Reading config.pbtxt needs {error.name or 'more packages'}, which is not installed. "
            "Install it with: pip install 'fastapi-triton[check]'"
        ) from None
    return model_config_pb2


def _numbers(values: dict[str, Any], descriptor: Any) -> None:
    """Convert numbers from text in place, as a server returns them."""
    for name, value in values.items():
        field = descriptor.fields_by_name[name]
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            kind = kind.fields_by_name["value"].message_type
            value = list(value.values())
        if number := _NUMBERS.get(field.cpp_type):
            values[name] = [number(each) for each in value] if isinstance(value, list) else number(value)
        elif kind is not None:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    _numbers(each, kind)
