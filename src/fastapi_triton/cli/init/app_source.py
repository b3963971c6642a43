# SPDX-License-Identifier: Apache-2.0
"""`main.py` for model configs: a declared endpoint for each model that can have one."""

import re
from collections.abc import Sequence

from fastapi_triton.cli.init.declaration_source import DeclarationSource, obstacle, quoted, unique
from fastapi_triton.endpoints.declared.contract import EVENT_OUTPUT
from fastapi_triton.triton.model_config import ModelConfig

_HEAD = '''"""The endpoints of this app, one for each model. Edit them: rename fields, add limits, defaults and routes.

`fastapi-triton check` compares them with the models, and `fastapi-triton serve` runs them.
"""
'''


def source(configs: Sequence[ModelConfig], left_out: Sequence[tuple[str, str]] = ()) -> str:
    """The text of `main.py`. `left_out` are more models that get a comment instead, each with the reason."""
    by_name = {config.name: config for config in configs}
    streams = {config.name: stream for config in configs if (stream := _stream_model(config, by_name)) is not None}
    reasons = dict(left_out)
    used = {stream.name for stream in streams.values()}
    declarations: list[DeclarationSource] = []
    class_names: list[str] = []
    paths: list[str] = []
    for config in configs:
        reason = obstacle(config, used)
        if reason is not None:
            reasons[config.name] = reason
            continue
        class_names.append(unique(_class_name(config.name), class_names))
        paths.append(unique(_path(config.name), paths))
        stream = streams.get(config.name)
        declarations.append(DeclarationSource.of(config, stream, class_name=class_names[-1], path=paths[-1]))
    return "\n".join(
        [_HEAD, _imports(declarations), "app = TritonFrontend()\n", *_comments(reasons), *_spaced(declarations)]
    )


def _imports(declarations: Sequence[DeclarationSource]) -> str:
    text = "".join(each.text for each in declarations)
    names = sorted({"TritonFrontend"}.union(*(each.names for each in declarations)))
    pydantic = [name for name in ("Base64Bytes", "BaseModel", "Field") if re.search(rf"\b{name}\b", text)]
    lines = ["from typing import Annotated\n\n"] if "Annotated[" in text else []
    lines.append(f"from fastapi_triton import {', '.join(names)}\n")
    if pydantic:
        lines.append(f"from pydantic import {', '.join(pydantic)}\n")
    return "".join(lines)


def _comments(reasons: dict[str, str]) -> list[str]:
    """Why models have no endpoint here. Most have a generated one."""
    if not reasons:
        return []
    lines = [f"# {quoted(name)}: {' '.join(reason.split())}.\n" for name, reason in sorted(reasons.items())]
    head = "# These models have no endpoint here. If they can have one, it is generated: /models/{name}/infer.\n"
    return ["".join([head, *lines])]


def _spaced(declarations: Sequence[DeclarationSource]) -> list[str]:
    return [f"\n{each.text}" for each in declarations]


def _class_name(model: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", model)
    name = "".join(word[0].upper() + word[1:] for word in words) or "Model"
    return f"Model{name}" if name[0].isdigit() else name


def _path(model: str) -> str:
    """`/<model>/infer`, with the characters that a path may have."""
    return f"/{re.sub(r'[^A-Za-z0-9_.-]+', '-', model).strip('-.') or 'model'}/infer"


def _stream_model(config: ModelConfig, others: dict[str, ModelConfig]) -> ModelConfig | None:
    """The decoupled model that this one calls (its parameter `stream_model`), if it can serve the same requests."""
    stream = others.get(config.called_model or "")
    if stream is None or not stream.decoupled or stream.is_batched or stream.output(EVENT_OUTPUT) is None:
        return None
    is_complete = {each.name for each in config.inputs if not each.optional} <= {each.name for each in stream.inputs}
    return (
        stream
        if is_complete and {each.name for each in config.outputs} <= {each.name for each in stream.outputs}
        else None
    )
