# SPDX-License-Identifier: Apache-2.0
"""Rules over what a Python model answers, read from its source: only literals are understood, and nothing is run."""

import ast
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
# The only rule that reports files that this Python cannot read.
UNREADABLE = "unreadable-python"


@dataclass(frozen=True, slots=True)
class Answered:
    """A `pb_utils.Tensor("name", …)` inside a response; the shape only where it stands in the source."""

    name: str
    shape: tuple[int | None, ...] | None


@RULES.add(
    UNREADABLE,
    ERROR,
    advice="Mend the line that is named. Waive it if Triton's Python is newer than this one and can read the file.",
)
def unreadable_python(model: ModelFolder) -> Iterator[str]:
    """A Python file that does not parse fails as soon as the model imports it, at the latest when it loads."""
    yield from (f"Python {platform.python_version()} cannot read {each}" for each in model.unreadable_modules)


@RULES.add("output-not-returned", WARNING, advice="Have the model answer it, or take it out of the config.")
def output_not_returned(model: ModelFolder) -> Iterator[str]:
    """An output that the model never answers is missing for every caller who asks for it."""
    if model.is_python and model.modules:
        texts = {each.value for module in model.modules for each in ast.walk(module) if isinstance(each, ast.Constant)}
        for output in model.settings.get("output", ()):
            if output.get("name") not in texts:
                yield f"the Python model never speaks of the output `{output.get('name')}`"


@RULES.add("output-undeclared", WARNING, advice="Declare it as an output, or correct its name.")
def output_undeclared(model: ModelFolder) -> Iterator[str]:
    """Triton drops or refuses a tensor in a response that the config does not declare."""
    declared = {each.get("name") for each in model.settings.get("output", ())}
    if model.is_python and declared:
        for each in _answered(model):
            if each.name not in declared:
                yield f"the Python model answers `{each.name}`, which is no output of the config"


@RULES.add(
    "output-dims",
    WARNING,
    advice="Answer the shape of the config: its dims, with the batch dimension first where max_batch_size is not 0.",
)
def output_dims(model: ModelFolder) -> Iterator[str]:
    """Triton passes on whatever shape a Python model answers, so callers who trust the config break on it."""
    is_batched = bool(model.settings.get("max_batch_size"))
    promised = {each.get("name"): tuple(each.get("dims", ())) for each in model.settings.get("output", ())}
    for each in _answered(model) if model.is_python else ():
        if each.shape is None or each.name not in promised:
            continue
        expected = ((-1,) if is_batched else ()) + promised[each.name]
        if not _fits(each.shape, expected):
            shown = ["?" if size is None else size for size in each.shape]
            yield f"`{each.name}` is answered with the shape {shown}, but the config promises {list(expected)}"


def _fits(shape: tuple[int | None, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        size is None or dim in (-1, size) for size, dim in zip(shape, expected, strict=True)
    )


def _answered(model: ModelFolder) -> Iterator[Answered]:
    """The tensors that stand, with their names, inside an `InferenceResponse(…)`."""
    for module in model.modules:
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and _called(node) == "InferenceResponse":
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Call) and _called(inner) == "Tensor" and len(inner.args) == 2:
                        name, value = inner.args
                        if isinstance(name, ast.Constant) and isinstance(name.value, str):
                            yield Answered(name.value, _shape(value))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _shape(node: ast.expr) -> tuple[int | None, ...] | None:
    """The shape of `np.array([…])`, `np.zeros((…))` and their like; None where the source does not show it."""
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
    """Only as deep as brackets show: what stands in them may be lists itself, except for constants."""
    if isinstance(node, ast.List | ast.Tuple):
        if not node.elts or any(isinstance(each, ast.Starred) for each in node.elts):
            return None
        inner = _literal_shape(node.elts[0])
        return None if inner is None else (len(node.elts), *inner)
    return () if isinstance(node, ast.Constant) else None
