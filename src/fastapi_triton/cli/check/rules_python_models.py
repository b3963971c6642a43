# SPDX-License-Identifier: Apache-2.0
"""Rules for the outputs of Python models, from literals in their source. No code is run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import WARNING, Rules
from fastapi_triton.triton.model_config import fits

RULES: Rules[ModelFolder] = Rules()


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """A `pb_utils.Tensor("name", …)` in a response. The shape is None unless the source shows it."""

    name: str
    shape: tuple[int | None, ...] | None


@RULES.add("output-not-returned", WARNING, advice="Return it, or remove it from the config.")
def output_not_returned(model: ModelFolder) -> Iterator[str]:
    """The output is missing from every response."""
    if model.is_python and model.modules:
        nodes = [each for module in model.modules for each in ast.walk(module)]
        mentioned = {each.value for each in nodes if isinstance(each, ast.Constant)}
        mentioned |= {each.arg for each in nodes if isinstance(each, ast.keyword)}  # send(event="progress")
        for output in model.outputs:
            if output.get("name") not in mentioned:
                yield f"the Python model never mentions the output `{output.get('name')}`"


@RULES.add("output-undeclared", WARNING, advice="Declare the output, or correct its name.")
def output_undeclared(model: ModelFolder) -> Iterator[str]:
    """Triton drops or rejects outputs that the config does not declare."""
    declared = {each.get("name") for each in model.outputs}
    if model.is_python and declared:
        for each in _output_tensors(model):
            if each.name not in declared:
                yield f"the Python model returns `{each.name}`, which the config does not declare"


@RULES.add(
    "output-dims",
    WARNING,
    advice="Return the config's dims, after the batch dimension unless max_batch_size is 0.",
)
def output_dims(model: ModelFolder) -> Iterator[str]:
    """Triton does not check shapes, so clients that rely on the config fail."""
    declared = {each.get("name"): tuple(each.get("dims", ())) for each in model.outputs}
    for each in _output_tensors(model) if model.is_python else ():
        if each.shape is None or each.name not in declared:
            continue
        expected = ((-1,) if model.max_batch_size > 0 else ()) + declared[each.name]
        if not fits(each.shape, expected):
            shown = ["?" if size is None else size for size in each.shape]
            yield f"`{each.name}` is returned with the shape {shown}, but the config declares {list(expected)}"


def _output_tensors(model: ModelFolder) -> Iterator[OutputTensor]:
    """The named tensors inside `InferenceResponse(…)` calls."""
    for module in model.modules:
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and _called(node) == "InferenceResponse":
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Call) and _called(inner) == "Tensor" and len(inner.args) == 2:
                        name, value = inner.args
                        if isinstance(name, ast.Constant) and isinstance(name.value, str):
                            yield OutputTensor(name.value, _shape(value))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _shape(node: ast.expr) -> tuple[int | None, ...] | None:
    """The shape of `np.array([…])`, `np.zeros((…))` and the like; None if the source does not show it."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    match _called(node):
        case "array" | "asarray":
            return _literal_shape(node.args[0])
        case "zeros" | "ones" | "empty" | "full":
            sizes = node.args[0]
            if isinstance(sizes, ast.Tuple | ast.List):
                return tuple(_size(each) for each in sizes.elts)
            return (_size(sizes),) if isinstance(sizes, ast.Constant) else None
    return None


def _size(node: ast.expr) -> int | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else None


def _literal_shape(node: ast.expr) -> tuple[int | None, ...] | None:
    """The shape of nested lists; None unless the innermost values are constants, since others may be lists."""
    if isinstance(node, ast.List | ast.Tuple):
        if not node.elts or any(isinstance(each, ast.Starred) for each in node.elts):
            return None
        inner = _literal_shape(node.elts[0])
        return None if inner is None else (len(node.elts), *inner)
    return () if isinstance(node, ast.Constant) else None
