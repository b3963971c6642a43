# SPDX-License-Identifier: Apache-2.0
"""Changes of a parsed config: a field of any of its messages is set or cleared; a list gains or loses items.

Values are small numbers, names that the repository has, and messages of other valid configs.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from nearly_valid.valid_repositories import VALID
from support.loading_triton import INERT

# Fields that Triton 2.51 does not have, fields that name libraries of the machine, and the model's name, which would be
# changed too often.
_LEFT_OUT = {
    "inference.ModelEnsembling.max_inflight_requests",
    "inference.ModelConfig.model_metrics",
    "inference.ModelConfig.runtime",
    "inference.ModelConfig.model_repository_agents",
    "inference.ModelConfig.name",
}
_NUMBERS = (1, 1, 2, 3, 4, 8, 0, -1, -2)
_LARGE_NUMBERS = (2**31, 2**62)
# No other numbers are large, since Triton would allocate memory.
_LARGE_FIELDS = {"inference.ModelInput.dims", "inference.ModelOutput.dims", "inference.ModelTensorReshape.shape"}
_TEXTS = {"backend": (*[INERT] * 5, ""), "platform": (*["custom"] * 4, "", "ensemble")}


def parse(config: str) -> Any:
    return text_format.Parse(config, model_config_pb2.ModelConfig())


def messages(message: Any) -> Iterator[Any]:
    """The message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if is_map(field):
            is_of_messages = field.message_type.fields_by_name["value"].message_type
            value = [value[key] for key in sorted(value)] if is_of_messages else []
        if field.message_type:
            for each in value if field.is_repeated else [value]:
                yield from messages(each)


def is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def names(configs: Sequence[Any]) -> list[str]:
    """The texts of the configs' fields, such as the names of tensors and models."""
    found = {"elsewhere", "1", ""}
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


def change(chance: Random, config: Any, known_names: Sequence[str]) -> None:
    """Change one field of the config or of a message within it, in place."""
    message = chance.choice([each for each in messages(config) if each.DESCRIPTOR.fields])
    fields = [field for field in message.DESCRIPTOR.fields if field.full_name not in _LEFT_OUT]
    present = [field for field, _ in message.ListFields() if field in fields]
    field = chance.choice(present if present and chance.random() < 0.7 else fields)
    if is_map(field):
        _change_map(chance, getattr(message, field.name), field, known_names)
    elif field.is_repeated:
        _change_list(chance, getattr(message, field.name), field, known_names)
    elif field.name not in _TEXTS and chance.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type:
        getattr(message, field.name).SetInParent()
        getattr(message, field.name).CopyFrom(_value(chance, field, known_names))
    else:
        setattr(message, field.name, _value(chance, field, known_names))


def _change_list(chance: Random, values: Any, field: Any, known_names: Sequence[str]) -> None:
    items = list(values)
    at = chance.randrange(len(items) + 1)
    is_copy = items and chance.random() < 0.5
    new = [chance.choice(items) if is_copy else _value(chance, field, known_names)]
    items[at : at + chance.randrange(2)] = new if chance.random() < 0.75 else []
    copies = [type(each).FromString(each.SerializeToString()) if field.message_type else each for each in items]
    del values[:]
    values.extend(copies)


def _change_map(chance: Random, values: Any, field: Any, known_names: Sequence[str]) -> None:
    key_field, value_field = (field.message_type.fields_by_name[each] for each in ("key", "value"))
    old = chance.choice(sorted(values) or [None])
    if old is not None and chance.random() < 0.25:
        del values[old]
        return
    key = old if old is not None and chance.random() < 0.5 else _value(chance, key_field, known_names)
    value = _value(chance, value_field, known_names)
    if value_field.message_type:
        values[key].CopyFrom(value)
    else:
        values[key] = value


def _value(chance: Random, field: Any, known_names: Sequence[str]) -> Any:
    """A value of the field's type; of the type of its items if it is a list."""
    if field.message_type:
        empty = field.message_type._concrete_class()
        return chance.choice([*_MESSAGES[field.message_type.full_name], empty])
    if field.enum_type:
        return chance.choice([each.number for each in field.enum_type.values if each.name != "KIND_GPU"])
    if field.type == field.TYPE_STRING:
        return chance.choice(_TEXTS.get(field.name, known_names))
    if field.type == field.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return chance.choice([-1.0, 0.0, 0.5, 1.0, 2.0])
    is_unsigned = field.type in (field.TYPE_UINT32, field.TYPE_UINT64)
    large = _LARGE_NUMBERS if field.full_name in _LARGE_FIELDS else ()
    return chance.choice([each for each in (*_NUMBERS, *large) if each >= 0 or not is_unsigned])
