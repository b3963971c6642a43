# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of `docs/` that are generated from the code: `python scripts/reference_pages.py`."""

from pathlib import Path

from fastapi_triton.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"


def settings_page() -> str:
    """Every setting: variable, flag, default, meaning."""
    rows = [
        "# Settings",
        "",
        "Each is an environment variable and a flag of `fastapi-triton serve`; the flag wins. Written by `make docs`.",
        "",
        "| variable | flag | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        is_url = name == "triton_url"
        variable = "TRITON_URL" if is_url else f"FASTAPI_TRITON_{name.upper()}"
        prefix = "--no-" if field.default is True else "--"
        flag = "--triton" if is_url else prefix + name.replace("_", "-")
        rows.append(f"| `{variable}` | `{flag}` | `{field.default}` | {field.description} |")
    return "\n".join(rows) + "\n"


PAGES = {"settings.md": settings_page}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
