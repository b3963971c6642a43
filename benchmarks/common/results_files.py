# SPDX-License-Identifier: Apache-2.0
"""Write a results page, its data and its bar chart, in files of the same name."""

from pathlib import Path


def write_results(page: Path, *, text: str, data: str, picture: str) -> Path:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)
    page.with_suffix(".json").write_text(data)
    page.with_suffix(".svg").write_text(picture)
    return page
