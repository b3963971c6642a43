# SPDX-License-Identifier: Apache-2.0
"""Rules for `model_warmup`: Triton sends these requests to each instance while it loads the model."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from fastapi_triton.cli.check import data_files, named_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, Rules
from fastapi_triton.cli.check.tensor import Tensor, missing_fields
from fastapi_triton.triton.model_config import fits

RULES: Rules[ModelFolder] = Rules()
_SOURCES = ("zero_data", "random_data", "input_data_file")
# More texts are not counted.
_MAX_TEXTS = 1_000_000


@RULES.add(
    "invalid-warmup",
    ERROR,
    advice="Give each required input its data_type, dims without batch dimension and -1, and zero_data, random_data or "
    "an input_data_file in warmup/.",
)
def invalid_warmup(model: ModelFolder) -> Iterator[str]:
    """Triton rejects warm-up requests that do not fit the inputs."""
    if model.is_ensemble or _are_all_passive(model):
        return
    inputs = {each.get("name", ""): each for each in model.inputs}
    num_required = sum(not each.get("optional") for each in inputs.values())
    samples: Sequence[Tensor] = model.settings.get("model_warmup", ())
    for sample in samples:
        if not sample.get("batch_size"):
            continue  # Triton skips it
        given: Mapping[str, Tensor] = sample.get("inputs") or {}
        for name, tensor in given.items():
            for problem in (*_problems(model, tensor), *_mismatches(model, tensor, inputs.get(name))):
                yield f"warmup setting '{sample.get('name')}', input '{name}': {problem}"
        if (num_given := len(inputs.keys() & given.keys())) < num_required:
            missing = ", ".join(name for name in inputs if name not in given)
            yield (
                f"warmup setting '{sample.get('name')}': expected {num_required} inputs but got {num_given} inputs; "
                f"missing: {missing}"
            )


def _problems(model: ModelFolder, tensor: Tensor) -> Iterator[str]:
    dims = list(tensor.get("dims", ()))
    if -1 in dims:
        yield f"expects all variable-size dimensions are specified: dims are {dims}"
    elif any(dim < 0 for dim in dims):
        yield f"dims {dims} are negative"
    elif not any(source in tensor for source in _SOURCES):
        yield "expects input_data_type set: zero_data, random_data or input_data_file"
    elif "input_data_file" in tensor:
        yield from data_files.problems(model.path / "warmup", tensor["input_data_file"], tensor)


def _mismatches(model: ModelFolder, tensor: Tensor, declared: Tensor | None) -> Iterator[str]:
    """How it differs from the config's input. Other names are accepted: they may be control tensors."""
    if declared is None or declared.get("is_shape_tensor") or missing_fields(declared):
        return
    if (given := tensor.get("data_type")) != (expected := declared.get("data_type")):
        yield f"data-type is '{given}', but the model expects '{expected}'"
    dims, allowed = list(tensor.get("dims", ())), list(declared.get("dims", ()))
    if -1 in dims:
        return
    if not fits(dims, allowed):
        yield f"unexpected shape: expected dims {allowed}, got {dims}"
    elif given == "TYPE_STRING" and "input_data_file" in tensor:
        path, expected = named_files.joined(model.path / "warmup", tensor["input_data_file"]), prod(dims)
        if expected <= _MAX_TEXTS and named_files.is_file(path):
            found = data_files.count_texts(path, at_most=expected)
            if found != expected:
                got = "one that is cut off" if found is None else "more" if found > expected else found
                yield f"expected {expected} string elements in {tensor['input_data_file']}, got {got}"


def _are_all_passive(model: ModelFolder) -> bool:
    groups: Sequence[Mapping[str, Any]] = model.settings.get("instance_group", ())
    return bool(groups) and all(each.get("passive") for each in groups)
