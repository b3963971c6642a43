# SPDX-License-Identifier: Apache-2.0
"""Rules that import-linter cannot check: the engine's imports, middleware, lengths, licences, names."""

import ast
from collections import Counter
from pathlib import Path

from support.paths import ROOT

PACKAGE = ROOT / "src" / "fastapi_triton"

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_engine_imports_neither_the_frontend_nor_triton() -> None:
    engine = list((ROOT / "models").rglob("diffusion_engine/*.py"))
    assert engine
    for path in engine:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"fastapi", "fastapi_triton", "triton_python_backend_utils", "starlette"}, path.name


def test_no_middleware_hides_a_disconnect() -> None:
    for path in (*MODULES, ROOT / "main.py"):
        text = path.read_text()
        assert "import BaseHTTPMiddleware" not in text
        assert '.middleware("http")' not in text


def test_no_file_is_too_long() -> None:
    for path in (
        *MODULES,
        *(ROOT / "models").rglob("*.py"),
        *(ROOT / "demo").rglob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ):
        assert len(path.read_text().splitlines()) <= 600, path.name
    assert len((ROOT / "main.py").read_text().splitlines()) <= 65


def test_every_source_file_names_its_licence() -> None:
    for folder in ("src", "models", "demo", "benchmarks", "tests", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path


def test_a_package_docstring_that_lists_modules_lists_all_of_them() -> None:
    for package in PACKAGE.rglob("__init__.py"):
        text = package.read_text()
        if "| --- |" in text:
            names = {path.stem for path in package.parent.glob("*.py")} - {"__init__"}
            missing = {each for each in names if f"`{each}`" not in text and f"`{each.split('_')[0]}_*`" not in text}
            assert not missing, package.parent.name


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by this name, so a fresh clone could not collect the second."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
