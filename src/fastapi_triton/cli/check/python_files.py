# SPDX-License-Identifier: Apache-2.0
"""Reads the Python files of a model as syntax trees. No code is run."""

import ast
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PythonFile:
    """One file in a version folder.

    Args:
        name: its path in the model's folder.
        tree: None if this Python cannot read the file; `error` says why.
        is_model: whether this is the file that Triton imports.
        is_loaded: whether importing the model imports it.
    """

    name: str
    tree: ast.Module | None
    error: str
    is_model: bool
    is_loaded: bool


def read(folder: Path, versions: Sequence[int], model_file: str) -> tuple[PythonFile, ...]:
    """The Python files of these versions, since any of them may create the model's outputs."""
    found: dict[Path, PythonFile] = {}
    for version in versions:
        roots = (folder / str(version), folder)  # Triton appends both to `sys.path`
        model = roots[0] / model_file
        pending = [model] if model.suffix == ".py" and model.is_file() else []
        while pending:
            path = pending.pop()
            if path not in found:
                found[path] = _read(path, folder, is_model=path == model, is_loaded=True)
                pending += _imports(found[path].tree, roots)
        for path in sorted(roots[0].rglob("*.py")):
            if path not in found:
                found[path] = _read(path, folder, is_model=False, is_loaded=False)
    return tuple(found.values())


def _read(path: Path, folder: Path, *, is_model: bool, is_loaded: bool) -> PythonFile:
    tree, error = _parsed(path)
    return PythonFile(str(path.relative_to(folder)), tree, error, is_model, is_loaded)


def _imports(tree: ast.Module | None, roots: Sequence[Path]) -> Iterator[Path]:
    """The model's own files that the module imports whenever it is imported itself."""
    for node in tree.body if tree else ():
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.append(node.module)
        for module in modules:
            stem = module.replace(".", "/")
            candidates = [root / name for root in roots for name in (f"{stem}/__init__.py", f"{stem}.py")]
            yield from [each for each in candidates if each.is_file()][:1]


def _parsed(path: Path) -> tuple[ast.Module | None, str]:
    """The file's syntax tree, or the reason why this version of Python cannot parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # for the model's author, such as invalid escapes
            return ast.parse(path.read_bytes()), ""
    except SyntaxError as error:
        return None, f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    except (RecursionError, MemoryError):
        return None, "it is nested too deeply"
    except (OSError, ValueError) as error:
        return None, str(error)
