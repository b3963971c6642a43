# SPDX-License-Identifier: Apache-2.0
"""Rules for `batch_input` and `batch_output`: tensors that Triton derives from a batch of ragged inputs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, Rules
from fastapi_triton.core.suggestions import nearest

RULES: Rules[ModelFolder] = Rules()
_DATATYPES = ("TYPE_INT32", "TYPE_FP32")


@RULES.add(
    "invalid-batch-tensor",
    ERROR,
    advice="Use one source_input of the model, TYPE_INT32 or TYPE_FP32, and each output of the model at most once.",
)
def invalid_batch_tensor(model: ModelFolder) -> Iterator[str]:
    """Triton rejects other sources, datatypes and targets of batch tensors."""
    for index, tensor in enumerate(model.settings.get("batch_input", ())):
        where = f"batch_input {index}"
        yield from _sources(model, tensor, "batch input", where)
        if (datatype := tensor.get("data_type", "TYPE_INVALID")) not in _DATATYPES:
            yield f"batch input data type must be TYPE_INT32 or TYPE_FP32: {where} has {datatype}"
    for index, tensor in enumerate(model.settings.get("batch_output", ())):
        where = f"batch_output {index}"
        yield from _sources(model, tensor, "batch output", where)
        for target, count in Counter(tensor.get("target_name", ())).items():
            if (outputs := _names(model, "output")) is not None and target not in outputs:
                yield f"unknown target output name '{target}': {where}{nearest(target, outputs)}"
            elif count > 1:
                yield f"target output name '{target}' can only be specified once: {where}"


def _sources(model: ModelFolder, tensor: Mapping[str, Any], what: str, where: str) -> Iterator[str]:
    kind, sources = tensor.get("kind"), tensor.get("source_input", ())
    if not isinstance(kind, str):
        yield f"unknown {what} kind '{kind}': {where}"
    elif len(sources) != 1:
        yield f"{what} kind '{kind}' expects 1 source input, got {len(sources)}: {where}"
    inputs = _names(model, "input")
    for source in sources:
        if inputs is not None and source not in inputs:
            yield f"unknown source input name '{source}': {where}{nearest(source, inputs)}"


def _names(model: ModelFolder, side: str) -> list[str] | None:
    """The names of the model's inputs or outputs; None if the backend may add some."""
    tensors = model.settings.get(side, ())
    may_grow = model.is_python or not tensors
    return None if model.completion.sides and may_grow else [each.get("name", "") for each in tensors]
