# SPDX-License-Identifier: Apache-2.0
"""Which way imports point: down only; and what each half of the house must never import."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from support.paths import ROOT

PACKAGE = ROOT / "src" / "fastapi_triton"

# From the ground up; a module may import modules of lower floors only (`triton/` is one family on one floor).
FLOORS = (
    (
        "errors",
        "background",
        "settings",
        "callers",
        "deadlines",
        "places",
        "service_time",
        "machine",
        "guard",
        "bundle",
        "datatypes",
        "flaws",
        "declared",
        "pbtxt",
        "s3_models",
        "image_files",
    ),
    ("observation", "v2_call", "drain", "connection_limits", "request_body", "processes", "stub_watch"),
    (
        "model_config",
        "middleware",
        "fields",
        "functions",
        "access_log",
        "metrics",
        "tracing",
        "disconnects",
        "waiting_room",
    ),
    ("triton", "admission", "images", "negotiate", "embedded", "logs", "gauges"),
    ("contract", "tensors", "problems"),
    ("access", "serving"),
    ("binary_arrays",),
    ("json_values",),
    ("exchange", "bodies", "answers", "declaration", "events", "tensor_schemas"),
    ("triton_proxy",),
    ("twin", "generated", "passage", "http_protocol"),
    ("endpoints", "catalogue"),
    ("openapi", "health", "text_to_image", "previews", "standing", "generated_endpoint"),
    ("generated_openapi", "jobs"),
    ("routers", "playground"),
    ("app",),
    ("lint", "server", "workers"),
    ("check", "serve", "perf"),
    ("cluster",),
    ("offline", "generate", "setting_flags", "worker"),
    ("cli",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    family = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert family in FLOOR, "a new module: give it a floor"
    for name in imported(path):
        if not name.startswith("fastapi_triton"):
            continue
        parts = name.split(".")
        assert parts[1] in FLOOR, f"{name} comes from the package root, which nothing inside imports"
        assert parts[1] == family or FLOOR[parts[1]] < FLOOR[family], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_frontend_needs_no_torch(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"torch", "diffusers", "transformers", "pytriton", "grpc", "diffusion_engine"}


def test_the_engine_knows_neither_the_frontend_nor_triton() -> None:
    engine = list((ROOT / "models").rglob("diffusion_engine/*.py"))
    assert engine
    for path in engine:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"fastapi", "fastapi_triton", "triton_python_backend_utils", "starlette"}, path.name


def test_no_middleware_hides_a_callers_leaving() -> None:
    for path in (*MODULES, ROOT / "main.py"):
        text = path.read_text()
        assert "import BaseHTTPMiddleware" not in text
        assert '.middleware("http")' not in text


def test_no_file_is_too_long_to_read() -> None:
    for path in (
        *MODULES,
        *(ROOT / "models").rglob("*.py"),
        *(ROOT / "demo").rglob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
    ):
        assert len(path.read_text().splitlines()) <= 400, path.name
    assert len((ROOT / "main.py").read_text().splitlines()) <= 40


def test_every_source_file_names_its_licence() -> None:
    for folder in ("src", "models", "demo", "benchmarks", "tests", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by it: a fresh clone could not collect the second."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
