# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of `docs/` that are generated from the code: `python scripts/reference_pages.py`."""

from pathlib import Path

from fastapi_triton import check
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


def check_page() -> str:
    """Every rule of `fastapi-triton check`: code, severity, why, what to do."""
    rows = [CHECK_INTRODUCTION]
    for subject, rules in check.RULES.items():
        rows += ["", f"## {subject}", "", "| rule | severity | why | what to do |", "| --- | --- | --- | --- |"]
        rows += [f"| `{each.code}` | {each.severity} | {each.says} | {each.advice} |" for each in rules]
    return "\n".join(rows) + "\n"


CHECK_INTRODUCTION = """# What `fastapi-triton check` looks at

`fastapi-triton check [main:app] [models/]` holds an app's endpoints against `config.pbtxt` files, and says what in the
configs, the Python models and the settings will hurt; no server is needed. `--triton URL` looks at a running Triton
too, and holds the endpoints against what it serves; it only reads, unless `--trial` has it send every plain model one
request of zeros and empty texts. Reading `config.pbtxt` takes an extra: `pip install 'fastapi-triton[check]'`.

It ends with 0 where there is no problem, with 1 where there is an error or a warning that is not waived, and with 2
where it could not look. Notes fail nothing. `--json` is for programs: `problems` is their number, and each of
`findings` has `code`, `severity`, `where`, `detail`, `advice` and `waived`, the reason if there is one.

A rule is waived for one model in its config, with the reason; without a reason the waiver does not count:

```protobuf
parameters {
  key: "waive.no-dynamic-batching"
  value { string_value: "execute never waits; what is over max_open_rows is refused" }
}
```

The rules, written by `make docs`:"""

PAGES = {"settings.md": settings_page, "check.md": check_page}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
