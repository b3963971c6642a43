# SPDX-License-Identifier: Apache-2.0
"""`config.pbtxt` as text → the dict that a running server answers for it, so that one reader serves both.

The grammar is Triton's own: the protobuf definitions that `tritonclient` ships. They need grpcio, which the slim
frontend does without, so this is an extra. What Triton adds by itself when it loads a model (its auto-complete) is not
in a text; only a missing name is, which is the folder's.
"""

import re
from pathlib import Path
from typing import Any

_POSITION = re.compile(r"^(\d+):(\d+) : (?:'.*': )?(.*)$", re.DOTALL)
# protobuf's reasons → ours, in the terms of a config.pbtxt.
_REASONS = (
    (re.compile(r'Message type "inference\.(\w+)" has no field named "(.+?)"'), "{0} has no field `{1}`"),
    (re.compile(r'Enum type "inference\.(?:\w+\.)?(\w+)" has no value named (\w+)'), "{0} has no value {1}"),
    (
        re.compile(r'Message type "inference\.(\w+)" should not have multiple "(.+?)" fields'),
        "`{1}` stands in {0} more than once",
    ),
    (
        re.compile(r'Field "(\w+)" is specified along with field "(\w+)", another member of oneof'),
        "`{0}` and `{1}` exclude each other",
    ),
    (re.compile(r"Couldn't parse integer: (.*)"), "{0} is no whole number"),
)
_INT64_TYPES = (3, 4, 6, 16, 18)  # protobuf's numbers for its 64-bit integers, which its JSON writes as text


class ConfigTextError(Exception):
    """The text is no model config, or cannot be read here; the text is for a person."""


def read(path: Path) -> dict[str, Any]:
    """A `config.pbtxt` as `GET /v2/models/<name>/config` would answer it; a name that is left out is its folder's.

    Raises:
        ConfigTextError: no model config; file, line, column and reason are named.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigTextError(f"{path}: it cannot be read: {error}") from None
    config = parse(text, source=str(path))
    config["name"] = config["name"] or path.parent.name  # as Triton does
    return config


def parse(text: str, *, source: str = "config.pbtxt") -> dict[str, Any]:
    """The dict for a config's text: enums by name, 64-bit integers as numbers, defaults present.

    Raises:
        ConfigTextError: no model config; source, line, column and reason are named.
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
        ConfigTextError: the extra that brings them is not installed; the text says what to install.
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
    for pattern, words in _REASONS:
        found = pattern.search(reason)
        if found is not None:
            reason = words.format(*found.groups())
    return f"{line}:{column}: {reason.rstrip('.')}"


def _numbers(values: dict[str, Any], descriptor: Any) -> None:
    """Make numbers of the 64-bit integers, in place; a server's answer has them as numbers."""
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
