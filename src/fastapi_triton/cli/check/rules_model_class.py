# SPDX-License-Identifier: Apache-2.0
"""Rules for a Python model's file and its class `TritonPythonModel`, from their source. No code is run."""

import ast
import platform
from collections.abc import Iterator

from fastapi_triton.cli.check.python_files import PythonFile
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
CLASS = "TritonPythonModel"
# A module that uses these may define names that its source does not show.
_DYNAMIC = frozenset({"globals", "exec", "eval", "vars", "locals", "setattr", "__dict__", "__getattr__", "modules"})
# Method → how Triton calls it, and the number of arguments, including `self`. All but `execute` are optional.
_CALLS = {
    "__init__": ("__init__(self)", 1),
    "auto_complete_config": ("TritonPythonModel.auto_complete_config(auto_complete_model_config)", 1),
    "initialize": ("initialize(self, args)", 2),
    "execute": ("execute(self, requests)", 2),
}


@RULES.add(
    "unreadable-python",
    ERROR,
    advice="Correct the line. Waive this if Triton's newer Python can read the file.",
)
def unreadable_python(model: ModelFolder) -> Iterator[str]:
    """Triton does not load the model: model.py, or a file that it imports, is no valid Python."""
    yield from (_unreadable(each) for each in model.python_files if each.is_loaded and each.tree is None)


@RULES.add("unreadable-module", WARNING, advice="Correct the line, or remove the file.")
def unreadable_module(model: ModelFolder) -> Iterator[str]:
    """Importing the file fails. The model loads without it, and is not checked further."""
    if model.is_python:
        yield from (_unreadable(each) for each in model.python_files if not each.is_loaded and each.tree is None)


@RULES.add("no-model-class", ERROR, advice=f"Define `class {CLASS}:`.")
def no_model_class(model: ModelFolder) -> Iterator[str]:
    """Triton does not load the model: it creates an instance of this class."""
    for name, tree in _model_modules(model):
        if not _mentions(tree, {CLASS, *_DYNAMIC}):
            yield f"{name}: AttributeError: module has no attribute '{CLASS}'"


@RULES.add("no-execute", ERROR, advice="Define `def execute(self, requests):`.")
def no_execute(model: ModelFolder) -> Iterator[str]:
    """Triton loads the model, and every request fails."""
    for name, tree in _model_modules(model):
        defined = _model_class(tree)
        if defined is not None and not defined.bases and not _mentions(tree, {"execute", *_DYNAMIC}):
            yield f"{name}: line {defined.lineno}: {CLASS} has no method `execute`"


@RULES.add("wrong-signature", ERROR, advice="Correct the method's parameters.")
def wrong_signature(model: ModelFolder) -> Iterator[str]:
    """Triton's call of the method raises a TypeError: the model does not load, or all requests fail."""
    for name, tree in _model_modules(model):
        defined = _model_class(tree)
        methods = {each.name: each for each in (defined.body if defined else ()) if isinstance(each, ast.FunctionDef)}
        for method, (call, num_arguments) in _CALLS.items():
            if method in methods and not _accepts(methods[method], num_arguments):
                line = methods[method].lineno
                yield f"{name}: line {line}: `{method}` must accept Triton's call: {call}"


def _unreadable(file: PythonFile) -> str:
    return f"Python {platform.python_version()} cannot read {file.name}: {file.error}"


def _model_modules(model: ModelFolder) -> Iterator[tuple[str, ast.Module]]:
    """The name and the syntax tree of the file that Triton imports, of each version that it loads."""
    if model.is_python:
        for each in model.python_files:
            if each.is_model and each.tree is not None:
                yield each.name, each.tree


def _model_class(tree: ast.Module) -> ast.ClassDef | None:
    """The class, if the source shows what it is: not assigned, imported, decorated, or one of several."""
    found = [each for each in ast.walk(tree) if CLASS in _names(each) and not _is_use(each)]
    if len(found) == 1 and isinstance(found[0], ast.ClassDef) and found[0] in tree.body:
        return None if found[0].decorator_list or found[0].keywords else found[0]
    return None


def _mentions(tree: ast.Module, names: set[str]) -> bool:
    """Whether the module may define one of the names: it has the name anywhere, or imports `*`."""
    return any(_names(each) & {*names, "*"} for each in ast.walk(tree))


def _names(node: ast.AST) -> set[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name}
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return {name}
        case ast.alias(name=name, asname=asname):
            return {asname or name}
    return set()


def _is_use(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


def _accepts(method: ast.FunctionDef, num_arguments: int) -> bool:
    """Whether a call with this number of positional arguments succeeds. Unknown decorators may change that."""
    decorators = [each.id if isinstance(each, ast.Name) else "?" for each in method.decorator_list]
    if decorators not in ([], ["staticmethod"], ["classmethod"]):
        return True
    if method.name == "auto_complete_config":
        num_arguments += decorators == ["classmethod"]  # Triton calls it on the class
    else:
        num_arguments -= decorators == ["staticmethod"]
    arguments = method.args
    positional = [*arguments.posonlyargs, *arguments.args]
    is_enough = num_arguments >= len(positional) - len(arguments.defaults)
    is_few = num_arguments <= len(positional) or arguments.vararg is not None
    return is_enough and is_few and all(default is not None for default in arguments.kw_defaults)
