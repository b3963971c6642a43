# SPDX-License-Identifier: Apache-2.0
"""Parses `config.pbtxt` into the dict that a running server returns for it, so that one reader serves both.

The grammar is Triton's own: the protobuf definitions of `tritonclient`. They need grpcio, which the slim frontend does
not install, so this is an extra. Nothing is auto-completed as at load time, except a missing name.
"""

import re
from pathlib import Path
from typing import Any

_POSITION = re.compile(r"^(\d+):(\d+) : (?:'.*': )?(.*)$", re.DOTALL)
# protobuf's error texts → ours, in the terms of a config.pbtxt.
_REASONS = (
    (re.compile(r'Message type "inference\.(\w+)" has no field named "(.+?)"'), "{0} has no field `{1}`"),
    (re.compile(r'Enum type "inference\.(?:\w+\.)?(\w+)" has no value named (\w+)'), "{0} has no value {1}"),
    (
        re.compile(r'Message type "inference\.(\w+)" should not have multiple "(.+?)" fields'),
        "{0} has more than one `{1}`",
    ),
    (
        re.compile(r'Field "(\w+)" is specified along with field "(\w+)", another member of oneof'),
        "`{0}` and `{1}` cannot be used together",
    ),
    (re.compile(r"Couldn't parse integer: (.*)"), "{0} is not a whole number"),
)
_INT64_TYPES = (3, 4, 6, 16, 18)  # protobuf's numbers for its 64-bit integers, which its JSON writes as text


class ConfigTextError(Exception):
    """The config.pbtxt is invalid or cannot be read. The message is for people."""


def read(path: Path) -> dict[str, Any]:
    """A `config.pbtxt` as `GET /v2/models/<name>/config` would return it. A missing name is the folder's.

    Raises:
        ConfigTextError: the config is invalid. The message has file, line, column and reason.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigTextError(f"{path} cannot be read: {error}") from None
    config = parse(text, source=str(path))
    config["name"] = config["name"] or path.parent.name  # as Triton does
    return config


def parse(text: str, *, source: str = "config.pbtxt") -> dict[str, Any]:
    """The dict for a config's text: enums by name, 64-bit integers as numbers, defaults included.

    Raises:
        ConfigTextError: the config is invalid. The message has source, line, column and reason.
    """
    model_config_pb2 = definitions()
    from google.protobuf import json_format, text_format

    try:
        message = text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ConfigTextError(f"{source}:{_reworded(str(error))}") from None
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


def _reworded(error: str) -> str:
    position = _POSITION.match(error)
    if position is None:
        return f" {error}"
    line, column, reason = position.groups()
    for pattern, template in _REASONS:
        found = pattern.search(reason)
        if found is not None:
            reason = template.format(*found.groups())
    return f"{line}:{column}: {reason.rstrip('.')}"


def _numbers(values: dict[str, Any], descriptor: Any) -> None:
    """Convert 64-bit integers from text to numbers in place, as a server returns them."""
    for name, value in values.items():
        field = descriptor.fields_by_name[name]
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            kind = kind.fields_by_name["value"].message_type
            value = list(value.values())
        if field.type in _INT64_TYPES:
            values[name] = [int(each) for each in value] if isinstance(value, list) else int(value)
        elif kind is not None:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    _numbers(each, kind)
