# SPDX-License-Identifier: Apache-2.0
"""Converts a user's JSON requests to perf_analyzer's input data, checked against the model's config.

Numbers become lists. Strings become base64 of Triton's binary format, each with its length in front, so that all bytes
are possible. FP16 and BF16, which perf_analyzer's JSON does not support, become base64 too.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pybase64

from fastapi_triton.cli.perf.tool import PerfError
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.triton import infer_codec
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor

Request = dict[str, Any]

_KINDS: dict[str, tuple[type, ...]] = {"bytes": (str,), "bool": (bool,), "integer": (int,), "float": (int, float)}


def read_requests(paths: Sequence[Path]) -> list[Request]:
    """The JSON objects in these files, and in the `.json` files of these folders.

    Raises:
        PerfError: a file is missing, or is not one JSON object.
    """
    return [_read_request(path) for each in paths for path in _files(each, "*.json")]


def with_files(requests: Sequence[Request], files: Mapping[str, Path]) -> list[Request]:
    """The requests with inputs from files, as base64 text: one request for every file of a folder.

    Raises:
        PerfError: a file or folder is missing, or a folder is empty.
    """
    choices = [[(name, file) for file in _files(path, "*")] for name, path in files.items()]
    return [
        {**request, **{name: pybase64.b64encode(path.read_bytes()).decode() for name, path in chosen}}
        for request in requests
        for chosen in itertools.product(*choices)
    ]


def document(requests: Sequence[Request], config: ModelConfig) -> bytes:
    """The JSON for perf_analyzer's `--input-data`: one entry per request, used in turn.

    Raises:
        PerfError: a request does not match the model. The text lists all its problems.
    """
    return orjson.dumps(
        {"data": [_entry(request, config) for request in requests]},
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _files(path: Path, pattern: str) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PerfError(f"There is no file or folder {path}.")
    found = sorted(each for each in path.glob(pattern) if each.is_file() and not each.name.startswith("."))
    if not found:
        raise PerfError(f"The folder {path} has no file that matches {pattern}.")
    return found


def _read_request(path: Path) -> Request:
    try:
        request = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise PerfError(f"{path} is not JSON: {error}.") from None
    if not isinstance(request, dict):
        raise PerfError(
            f'{path} must contain one JSON object with a member for each input, as in {{"prompt": "a house"}}.'
        )
    return request


def _entry(request: Request, config: ModelConfig) -> dict[str, Any]:
    problems = [
        f"The model {config.name} has no input `{name}`{nearest(name, [each.name for each in config.inputs])}"
        for name in request
        if config.input(name) is None
    ]
    for tensor in config.inputs:
        value = request.get(tensor.name)
        if value is None:
            problems += [] if tensor.optional else [f"The input `{tensor.name}` is missing."]
        elif not _is_of(value, _KINDS[tensor.datatype.kind]):
            hint = f" Only /models/{config.name}/infer takes pictures; measure that path." if tensor.image else ""
            problems.append(f"`{tensor.name}` must be {tensor.datatype.wire}, alone or in lists.{hint}")
    if problems:
        raise PerfError("\n".join(problems))
    try:
        fields = tensors.from_fields(request, config)
    except InvalidRequestError as error:
        raise PerfError("\n".join(problem.detail for problem in error.problems)) from None
    return {name: _tensor(tensor, is_batched=config.is_batched) for name, tensor in fields.items()}


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, list):
        return all(_is_of(each, kinds) for each in value)
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _tensor(tensor: Tensor, *, is_batched: bool) -> dict[str, Any]:
    array = tensor.array[0] if is_batched else tensor.array  # perf_analyzer adds the batch dimension itself
    if tensor.datatype.wire not in ("FP16", "BF16", "BYTES"):
        return {"content": array.reshape(-1).tolist(), "shape": list(array.shape)}
    binary = b"".join(infer_codec.serialize(tensor.datatype.wire, Tensor(tensor.datatype, array)))
    return {"b64": pybase64.b64encode(binary).decode(), "shape": list(array.shape)}
