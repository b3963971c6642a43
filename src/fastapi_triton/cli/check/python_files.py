# SPDX-License-Identifier: Apache-2.0
"""Reads the Python files of a model as syntax trees. No code is run."""

import ast
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi_triton.cli.check import named_files

# The folder of an environment's packages, which have thousands of files.
_PACKAGES = "site-packages"
_MAX_BYTES = 4 * 1024 * 1024


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
        model = named_files.joined(roots[0], model_file)
        pending = [model] if model.suffix == ".py" and named_files.is_file(model) else []
        while pending:
            path = pending.pop()
            if path not in found:
                found[path] = _read(path, folder, is_model=path == model, is_loaded=True)
                # Triton's import of `from ... import other_model` fails.
                pending += [each for each in _imports(found[path].tree, path, roots) if each.is_relative_to(folder)]
        for path in sorted(roots[0].rglob("*.py")):
            if path not in found and named_files.is_file(path) and _PACKAGES not in path.parts:
                found[path] = _read(path, folder, is_model=False, is_loaded=False)
    return tuple(found.values())


def _read(path: Path, folder: Path, *, is_model: bool, is_loaded: bool) -> PythonFile:
    tree, error = _parsed(path)
    return PythonFile(str(path.relative_to(folder)), tree, error, is_model, is_loaded)


def _imports(tree: ast.Module | None, path: Path, roots: Sequence[Path]) -> Iterator[Path]:
    """The model's own files that the module imports whenever it is imported itself."""
    for node in tree.body if tree else ():
        match node:
            case ast.Import(names=names):
                targets = [alias.name.split(".") for alias in names]
                places = roots
            case ast.ImportFrom(module=module, names=names, level=level):
                targets = [[*(module.split(".") if module else ()), alias.name] for alias in names]
                places = path.parents[level - 1 : level] if level else roots
            case _:
                continue
        for target in targets:
            yield from next(filter(None, (_found(place, target) for place in places)), [])


def _found(place: Path, target: Sequence[str]) -> list[Path]:
    """The files of the module `target` and of the packages around it, in a folder where imports look for them."""
    stems = [place.joinpath(*target[: index + 1]) for index in range(len(target))]
    files = [file for stem in stems for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))]
    return [file for file in files if named_files.is_file(file)]


def _parsed(path: Path) -> tuple[ast.Module | None, str]:
    """The file's syntax tree, or the reason why this version of Python cannot compile it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # for the model's author, such as invalid escapes
            with path.open("rb") as file:
                source = file.read(_MAX_BYTES + 1)
            if len(source) > _MAX_BYTES:
                return None, f"it has over {_MAX_BYTES:,} bytes"
            tree = ast.parse(source)
            compile(tree, path.name, "exec", dont_inherit=True)  # finds `return` outside of functions
            return tree, ""
    except SyntaxError as error:
        return None, f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    except (RecursionError, MemoryError):
        return None, "it is nested too deeply"
    except (OSError, ValueError) as error:
        return None, str(error)
