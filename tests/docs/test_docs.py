# SPDX-License-Identifier: Apache-2.0
"""The docs agree with the code, and the README's commands work against a real server."""

import importlib.util
import inspect
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import main
from fastapi_triton.core import errors
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.triton import model_errors
from support.paths import ROOT
from support.serving import Server

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
ERRORS_PAGE = (DOCS / "reference" / "errors.md").read_text()
BLOCKS = re.findall(r"(?:<!-- ([^>]*) -->\n)?```bash\n(.*?)```", README, re.DOTALL)


def reference_pages() -> Any:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "scripts" / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    assert page.read_text() == reference_pages().with_tables(page.read_text()), "run `make docs`"


def test_every_generated_table_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    assert {f"<!-- generated: {name} -->" for name in reference_pages().TABLES} <= set(text.splitlines())


def test_every_error_class_is_on_the_page_with_its_status() -> None:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]
    assert len(classes) > 10
    for each in classes:
        assert re.search(rf"\b{each.status}\b.*`{each.default_code}`", ERRORS_PAGE), each.__name__


def test_every_raised_code_is_on_the_page() -> None:
    raised = set(validation._CODES.values())
    for path in (*(ROOT / "src").rglob("*.py"), *(ROOT / "models").rglob("*.py")):
        raised |= set(
            re.findall(r"(?:\bcode=|RequestError\(\s*|FieldProblem\([^,]+, )\"([a-z_0-9]+)\"", path.read_text())
        )
    assert len(raised) > 20
    assert {code for code in raised if f"`{code}`" not in ERRORS_PAGE} == set()


def test_every_code_that_a_model_may_set_is_on_the_page() -> None:
    section = ERRORS_PAGE.split("## Codes that a model may set")[1]
    (codes,) = (paragraph for paragraph in section.split("\n\n") if paragraph.startswith("`cancelled`"))
    assert set(re.findall(r"`(\w+)`", codes)) == model_errors.CODES


def test_every_field_of_the_scribble_request_is_in_the_table_of_http_api() -> None:
    table = (ROOT / "docs" / "http-api.md").read_text().split("## Fields")[1].split("```")[0]
    for name in main.ScribbleRequest.model_fields:
        assert f"`{name}`" in table


def test_the_front_page_links_to_every_page() -> None:
    front_page = DOCS / "README.md"
    links = set(re.findall(r"\]\(([\w./-]+\.md)", front_page.read_text()))
    assert {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page != front_page} <= links


def test_the_prose_avoids_phrases_that_readers_have_to_decode() -> None:
    phrases = re.compile(r"\b(told|tells?|whoever|whose turn|so many|that which)\b", re.IGNORECASE)
    files = [path for folder in ("docs", "src", "models", "benchmarks", "demo") for path in (ROOT / folder).rglob("*")]
    prose = [path for path in (*ROOT.glob("*.md"), *files) if path.suffix in {".md", ".py", ".js", ".html", ".pbtxt"}]
    found = {f"{path.relative_to(ROOT)}: {hit[0]}" for path in prose for hit in phrases.finditer(path.read_text())}
    assert found == {
        "src/fastapi_triton/jobs/dbos_queue.py: told",  # a name in databases
        "src/fastapi_triton/jobs/dbos_queue.py: tell",
        "src/fastapi_triton/endpoints/binary_arrays.py: tell",  # a file's method
    }


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_every_file_that_a_page_links_to_exists() -> None:
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_heading_that_a_page_links_to_exists() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text()):
            assert anchor in anchors(page.parent / target if target else page), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_of_the_readme_names_its_test_or_the_reason_for_none() -> None:
    for mark, block in BLOCKS:
        assert mark == "tested" or mark.startswith(("tested by: ", "untested: ")), block


def test_the_documented_function_is_the_one_that_a_test_runs() -> None:
    """`tests/integration/test_reload.py` sends it requests, behind a real Triton."""
    (block,) = re.findall(r"```python\n(@app.infer.*?)```", (DOCS / "endpoints.md").read_text(), re.DOTALL)
    assert block in (ROOT / "tests" / "support" / "apps" / "function_app" / "main.py").read_text()


@pytest.mark.integration
@pytest.mark.parametrize("block", [block for mark, block in BLOCKS if mark == "tested"])
def test_the_commands_of_the_readme_work(block: str, scribble_server: Server, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    shutil.copytree(ROOT / "demo" / "examples", tmp_path / "demo" / "examples")
    command = block.replace("http://localhost:8080", scribble_server.url)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    if "-o picture.png" in block:
        Image.open(tmp_path / "picture.png").load()
    else:
        assert b'"seed":7' in done.stdout
