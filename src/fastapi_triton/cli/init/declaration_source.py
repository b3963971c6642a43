# SPDX-License-Identifier: Apache-2.0
"""The source of one declared endpoint: a pydantic model for a model's inputs, one for its outputs, and `app.infer`."""

import json
import keyword
import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Self

from pydantic import BaseModel

from fastapi_triton.observability.logging_config import printable
from fastapi_triton.triton.model_config import Content, ModelConfig, TensorConfig

_PLAIN = {"bool": "bool", "integer": "int", "float": "float", "bytes": "str"}
_CONTENT: dict[Content, str] = {
    "text": "str",
    "base64_image": "Base64Image",
    "binary": "Base64Bytes",
    "image": "Base64Bytes",
}
# Names that a field would hide from the annotations below it.
_USED_IN_ANNOTATIONS = frozenset(_PLAIN.values()) | {"list", "Annotated", "Base64Bytes", "Base64Image"}
_MAX_COLUMN = 100


def quoted(text: str) -> str:
    """The text as a Python literal on one line, in double quotes, without invisible characters."""
    return printable(json.dumps(text, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class DeclarationSource:
    """The source, and the names of `fastapi_triton` that it needs."""

    text: str
    names: frozenset[str]

    @classmethod
    def of(cls, config: ModelConfig, stream_model: ModelConfig | None, *, class_name: str, path: str) -> Self:
        """The declaration of a model, whose requests go to its stream model if it has one."""
        request = _ClassSource(f"{class_name}Request")
        for tensor in config.inputs:
            if tensor.name not in config.frontend_inputs:
                request.add(tensor, is_optional=tensor.optional)
            if tensor.image is not None:
                name, generated = quoted(tensor.name), quoted(f"/models/{config.name}/infer")
                request.lines.append(f"    # {name} holds a picture; {generated} also takes a file.")
        response = _ClassSource(f"{class_name}Response")
        for tensor in config.outputs:
            if tensor.content in ("binary", "image"):
                generated = quoted(f"/models/{config.name}/infer")
                response.lines.append(f"    # {quoted(tensor.name)} holds bytes; {generated} returns them in base64.")
            else:
                response.add(tensor)
        arguments = [quoted(path), f"model={quoted(config.name)}"]
        if stream_model is not None:
            arguments.append(f"stream_model={quoted(stream_model.name)}")
        arguments += [f"request={request.name}", f"response={response.name}"]
        call = f"app.infer({', '.join(arguments)})"
        if len(call) > _MAX_COLUMN:
            call = "app.infer(\n" + "".join(f"    {each},\n" for each in arguments) + ")"
        return cls(f"{request.text()}\n\n{response.text()}\n\n{call}\n", request.names | response.names)


def obstacle(config: ModelConfig, stream_models: Set[str]) -> str | None:
    """Why a model has no declared endpoint of its own. None: it has one."""
    if config.name in stream_models:
        return "it is the stream model of another endpoint"
    if config.decoupled:
        return "it is decoupled"
    if config.sequences is not None:
        return "it keeps state between requests"
    if all(tensor.content in ("binary", "image") for tensor in config.outputs):
        return "its outputs hold bytes"
    return None


@dataclass(slots=True)
class _ClassSource:
    """A pydantic model."""

    name: str
    lines: list[str] = field(default_factory=list)
    names: frozenset[str] = frozenset()
    _fields: set[str] = field(default_factory=set)

    def add(self, tensor: TensorConfig, *, is_optional: bool = False) -> None:
        name, annotation = self._field_name(tensor.name), _annotation(tensor)
        if "Base64Image" in annotation:
            self.names |= {"Base64Image"}
        if name != tensor.name:
            self.names |= {"TensorName"}
            annotation = f"Annotated[{annotation}, TensorName({quoted(tensor.name)})]"
        default = _default(tensor, is_optional=is_optional)
        optional = " | None" if is_optional else ""
        self.lines.append(
            f"    {name}: {annotation}{optional}{default}  # {tensor.datatype.config} {list(tensor.dims)}"
        )

    def text(self) -> str:
        has_fields = any(not each.startswith("    #") for each in self.lines)
        return "\n".join([f"class {self.name}(BaseModel):", *self.lines, *([] if has_fields else ["    pass"]), ""])

    def _field_name(self, tensor: str) -> str:
        name = tensor
        if not name.isidentifier() or unicodedata.normalize("NFKC", name) != name or name.startswith("_"):
            name = re.sub(r"\W", "_", tensor, flags=re.ASCII).strip("_")
        if not name or name[0].isdigit():
            name = f"tensor_{name}".rstrip("_")
        if _is_taken(name):
            name += "_"
        name = next(each for each in _numbered(name) if each not in self._fields)
        self._fields.add(name)
        return name


def _is_taken(name: str) -> bool:
    """Whether Python, pydantic or our own annotations use the name."""
    return (
        keyword.iskeyword(name) or name in _USED_IN_ANNOTATIONS or name.startswith("model_") or hasattr(BaseModel, name)
    )


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def unique(name: str, used: Iterable[str]) -> str:
    """The name, with a number if it is used."""
    taken = set(used)
    return next(each for each in _numbered(name) if each not in taken)


def _annotation(tensor: TensorConfig) -> str:
    plain = _PLAIN[tensor.datatype.kind]
    if tensor.content is not None:
        plain = _CONTENT[tensor.content]
    if tensor.is_single:
        return plain
    for _ in tensor.dims:
        plain = f"list[{plain}]"
    return plain


def _default(tensor: TensorConfig, *, is_optional: bool) -> str:
    """The default of an optional field, and the length of a list of fixed length."""
    arguments = ["None"] if is_optional else []
    if not tensor.is_single and tensor.dims[0] > 0:
        arguments += [f"min_length={tensor.dims[0]}", f"max_length={tensor.dims[0]}"]
    if not arguments:
        return ""
    return " = None" if arguments == ["None"] else f" = Field({', '.join(arguments)})"
