# SPDX-License-Identifier: Apache-2.0
"""Which of a model's Python files are read, and which of them an import of the model imports."""

from pathlib import Path

import pytest

from fastapi_triton.cli.check import python_files

BROKEN = "return 1"


def read(folder: Path, files: dict[str, str], versions: tuple[int, ...] = (1,)) -> dict[str, python_files.PythonFile]:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    return {each.name: each for each in python_files.read(folder, versions, "model.py")}


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import part", {"1/part.py"}),
        ("from part import *", {"1/part.py"}),
        ("from . import part", {"1/part.py"}),
        ("from ... import outside", set()),
        ("import os, near", {"near.py"}),
        ("import engine", {"1/engine/__init__.py"}),
        ("import engine.step as step", {"1/engine/__init__.py", "1/engine/step.py", "1/part.py"}),
        ("from engine import step", {"1/engine/__init__.py", "1/engine/step.py", "1/part.py"}),
        ("try:\n    import part\nexcept Exception:\n    pass", set()),
        ("def execute():\n    import part", set()),
    ],
)
def test_imports_are_followed(source: str, imported: set[str], tmp_path: Path) -> None:
    files = {
        "1/model.py": source,
        "1/part.py": "import part",
        "1/engine/__init__.py": "",
        "1/engine/step.py": "from ..part import f",
        "near.py": "",
        "part.py": "the version folder comes first",
        "../outside.py": "",
    }
    found = read(tmp_path / "m", files)
    assert {name for name, each in found.items() if each.is_loaded} == {"1/model.py", *imported}
    assert {name for name, each in found.items() if each.is_model} == {"1/model.py"}
    assert set(found) >= {"1/part.py", "1/engine/step.py"}  # any of them may create the model's outputs


def test_files_of_other_versions_are_not_read(tmp_path: Path) -> None:
    files = {"1/model.py": BROKEN, "2/model.py": "", "3/model.py": BROKEN}
    found = read(tmp_path, files, versions=(2, 3))
    assert {name: each.error for name, each in found.items()} == {
        "2/model.py": "",
        "3/model.py": "line 1: 'return' outside function",
    }


def test_packages_of_an_environment_are_not_read(tmp_path: Path) -> None:
    found = read(tmp_path, {"1/model.py": "", "1/env/lib/python3.12/site-packages/a.py": BROKEN})
    assert set(found) == {"1/model.py"}
