# SPDX-License-Identifier: Apache-2.0
"""Changes of a parsed config: a field of any of its messages is set or cleared; a list gains or loses items.

Values are small numbers, names that the repository has, and messages of other valid configs.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import text_format
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from nearly_valid.valid_repositories import VALID
from support.loading_triton import INERT

# Fields that Triton 2.51 does not have, and fields that name libraries of the machine.
_LEFT_OUT = {"max_inflight_requests", "model_metrics", "runtime", "model_repository_agents"}
_NUMBERS = (0, 1, 2, 3, 4, 8, -1, -2)
_LARGE_NUMBERS = (2**31, 2**62)
# No other numbers are large, since Triton would allocate memory.
_LARGE_FIELDS = {"inference.ModelInput.dims", "inference.ModelOutput.dims", "inference.ModelTensorReshape.shape"}
_TEXTS = {"backend": ("", INERT), "platform": ("", "custom", "ensemble")}
_NAMES = ("", "elsewhere", "1")


def parse(config: str) -> Any:
    return text_format.Parse(config, model_config_pb2.ModelConfig())


def messages(message: Any) -> Iterator[Any]:
    """The message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if is_map(field):
            value = [*value.values()] if field.message_type.fields_by_name["value"].message_type else []
        if field.message_type:
            for each in value if field.is_repeated else [value]:
                yield from messages(each)


def is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def names(configs: Sequence[Any]) -> list[str]:
    """The texts of the configs' fields, such as the names of tensors and models."""
    found = set(_NAMES)
    for message in (each for config in configs for each in messages(config)):
        for field, value in message.ListFields():
            if is_map(field):
                found |= {each for pair in value.items() for each in pair if isinstance(each, str)}
            elif field.type == field.TYPE_STRING:
                found |= set(value) if field.is_repeated else {value}
    return sorted(found)


# Message type → the messages of that type in the valid configs.
_MESSAGES: dict[str, list[Any]] = defaultdict(list)
for _config in (config for models in VALID.values() for config in models.values()):
    for _message in messages(parse(_config)):
        _MESSAGES[_message.DESCRIPTOR.full_name].append(_message)


@st.composite
def change(draw: st.DrawFn, config: Any, known_names: Sequence[str]) -> None:
    """Change one field of the config or of a message within it, in place."""
    message = draw(st.sampled_from([each for each in messages(config) if each.DESCRIPTOR.fields]))
    fields = [field for field in message.DESCRIPTOR.fields if field.name not in _LEFT_OUT]
    present = [field for field, _ in message.ListFields()]
    field = draw(st.sampled_from(present if present and draw(st.integers(0, 3)) else fields))
    if is_map(field):
        _change_map(draw, getattr(message, field.name), field, known_names)
    elif field.is_repeated:
        _change_list(draw, getattr(message, field.name), field, known_names)
    elif draw(st.integers(0, 2)):
        value = draw(_values(field, known_names))
        if field.message_type:
            getattr(message, field.name).SetInParent()
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    else:
        message.ClearField(field.name)


def _change_list(draw: st.DrawFn, values: Any, field: Any, known_names: Sequence[str]) -> None:
    items = list(values)
    at = draw(st.integers(0, len(items)))
    new = [
        draw(st.one_of(_values(field, known_names), st.sampled_from(items)) if items else _values(field, known_names))
    ]
    to = at + draw(st.integers(0, 1))
    items[at:to] = draw(st.sampled_from([new, new, []]))
    copies = [type(each).FromString(each.SerializeToString()) if field.message_type else each for each in items]
    del values[:]
    values.extend(copies)


def _change_map(draw: st.DrawFn, values: Any, field: Any, known_names: Sequence[str]) -> None:
    key_field, value_field = (field.message_type.fields_by_name[each] for each in ("key", "value"))
    old = draw(st.sampled_from(sorted(values) or [None]))
    if old is not None and not draw(st.integers(0, 3)):
        del values[old]
        return
    key = old if old is not None and draw(st.booleans()) else draw(_values(key_field, known_names))
    value = draw(_values(value_field, known_names))
    if value_field.message_type:
        values[key].CopyFrom(value)
    else:
        values[key] = value


def _values(field: Any, known_names: Sequence[str]) -> st.SearchStrategy[Any]:
    """Values of the field's type; of the type of its items if it is a list."""
    if field.message_type:
        empty = field.message_type._concrete_class()
        return st.sampled_from([empty, *_MESSAGES[field.message_type.full_name]])
    if field.enum_type:
        return st.sampled_from([each.number for each in field.enum_type.values if each.name != "KIND_GPU"])
    if field.type == field.TYPE_STRING:
        return st.sampled_from(_TEXTS.get(field.name, known_names))
    if field.type == field.TYPE_BOOL:
        return st.booleans()
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
    is_unsigned = field.type in (field.TYPE_UINT32, field.TYPE_UINT64)
    large = _LARGE_NUMBERS if field.full_name in _LARGE_FIELDS else ()
    return st.sampled_from([each for each in (*_NUMBERS, *large) if each >= 0 or not is_unsigned])
