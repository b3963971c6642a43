# SPDX-License-Identifier: Apache-2.0
"""Every example in the pages that say so does what the page says."""

from pathlib import Path

import pytest

from support import pages
from support.paths import ROOT
from support.serving import Server

PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if pages.MARK in path.read_text(encoding="utf-8"))


@pytest.mark.timeout(900)  # each example has a limit of its own
@pytest.mark.integration
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_pages_examples_do_what_it_says(page: Path, scribble_server: Server, tmp_path: Path) -> None:
    pages.run_all(page, url=scribble_server.url, folder=tmp_path)


def test_examples_are_found_with_their_output_and_skipped_with_a_reason() -> None:
    page = """
```bash
echo one
```

words

<!-- output -->
```text
one
```
<!-- untested: needs a GPU -->
```bash
rm -rf /
```
```python
print(2)
```
```json
{}
```
"""
    first, second = pages.examples(page)
    assert (first.line, first.code, first.expected) == (2, "echo one\n", "one\n")
    assert (second.code, second.expected) == ("print(2)\n", None)
    with pytest.raises(ValueError, match="line 2"):
        list(pages.examples("<!-- output -->\n```text\none\n```\n"))


def test_an_example_that_fails_or_prints_something_else_fails_the_test(tmp_path: Path) -> None:
    where = {"url": "http://127.0.0.1:1", "folder": tmp_path, "programs": tmp_path}
    pages.run(pages.Example(1, "bash", "echo $FASTAPI_TRITON_URL", "http://localhost:8080"), **where)
    pages.run(pages.Example(1, "python", "print('a picture of 128 pixels')", "a … of … pixels\n"), **where)
    with pytest.raises(AssertionError, match="line 7"):
        pages.run(pages.Example(7, "bash", "false | true"), **where)
    with pytest.raises(AssertionError, match="printed"):
        pages.run(pages.Example(7, "bash", "echo two", "one"), **where)


def test_json_is_compared_whatever_its_layout() -> None:
    assert pages.fits('{"a":"\\u00e4","b":[1, 2]}', '{\n  "a": "ä",\n  "b": …\n}')
    assert not pages.fits('{"a": 1}', '{"a": 2}')
