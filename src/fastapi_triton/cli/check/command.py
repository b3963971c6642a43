# SPDX-License-Identifier: Apache-2.0
"""The commands `fastapi-triton check` and `fastapi-triton openapi`, which need no server."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.app.loader import AppNotFoundError, load_app
from fastapi_triton.cli.check import repository, runner
from fastapi_triton.cli.check.rule import Finding, Severity
from fastapi_triton.cli.errors import fail, invalid_settings, triton_url
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.endpoints.generated import openapi
from fastapi_triton.observability.logging_config import printable, printable_json
from fastapi_triton.triton import config_text

CLEAN, PROBLEMS = 0, 1
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[APP] [MODELS]",
        help="module:attribute and a model repository; by default main:app and ./models, if they exist.",
    ),
]


def check_command(
    targets: Targets = None,
    triton: Annotated[
        str | None, typer.Option("--triton", metavar="URL", callback=triton_url, help="Check this running Triton too.")
    ] = None,
    trial: Annotated[
        bool,
        typer.Option(
            "--trial", help="Send each model that is not decoupled one request of zeros, and check the response."
        ),
    ] = False,
    is_strict: Annotated[bool, typer.Option("--strict", help="Fail if there are warnings, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Check endpoints, config.pbtxt files, Python models and settings. Exits with 1 if there are errors."""
    if trial and not triton:
        fail("--trial needs a running Triton. Name it with --triton.")
    app, models = _targets(targets or [])
    if app is None and models is None and triton is None:
        fail("There is nothing to check. Name an app (main:app), a model repository (models/) or --triton URL.")
    if app is not None and models is None and triton is None:
        fail("There are no models to check the app against. Name a model repository (models/) or --triton URL.")
    try:
        findings = asyncio.run(runner.check(runner.Subject(models, app, triton, trial)))
    except (config_text.ConfigTextError, FastAPITritonError, ValidationError) as error:
        fail(str(error))
    num_problems = sum(each.is_problem(is_strict=is_strict) for each in findings)
    if as_json:
        report = {"problems": num_problems, "findings": [asdict(each) for each in findings]}
        typer.echo(printable_json(report, indent=2))
    else:
        _print_table(findings)
    sys.exit(PROBLEMS if num_problems else CLEAN)


def openapi_command(
    targets: Targets = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file instead of standard output.")
    ] = None,
) -> None:
    """Write the OpenAPI document of an app and of the models in a repository, without a server."""
    app, models = _targets(targets or [])
    app = app or TritonFrontend()
    try:
        configs = [each.config for each in repository.read(models) if each.config] if models else []
    except config_text.ConfigTextError as error:
        fail(str(error))
    document = app.openapi()
    openapi.add_to(document, configs)
    text = printable_json(document, indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)


def _targets(arguments: Sequence[str]) -> tuple[TritonFrontend | None, Path | None]:
    """The app and the model repository that the arguments name."""
    folders = [each for each in arguments if Path(each).is_dir()]
    names = [each for each in arguments if each not in folders]
    if len(folders) > 1 or len(names) > 1:
        fail(f"Name at most one app and one model repository, not {' '.join(arguments)}.")
    for name in names:
        if "/" in name:
            fail(f"There is no model repository at {name}.")
    models = Path(folders[0]) if folders else Path("models") if Path("models").is_dir() else None
    chosen = names[0] if names else "main:app" if Path("main.py").is_file() else None
    if chosen is None:
        return None, models
    try:
        app = load_app(chosen, is_bundled_repository=False)
    except AppNotFoundError as error:
        fail(str(error))
    except ValidationError as error:  # of its settings
        fail(invalid_settings(error))
    if not isinstance(app, TritonFrontend):
        fail(f"{chosen} is a {type(app).__name__}, not a TritonFrontend, so it has no declared endpoints to check.")
    return app, models


def _print_table(findings: Sequence[Finding]) -> None:
    console = Console()
    by_subject: dict[str, dict[tuple[str, str], list[Finding]]] = {}
    for each in findings:
        by_subject.setdefault(each.where, {}).setdefault((each.code, each.waived or ""), []).append(each)
    for where, by_rule in by_subject.items():
        table = Table(
            title=Text(printable(where)), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
        )
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for (code, reason), found in by_rule.items():
            severity = found[0].severity
            level = Text("waived", "dim") if reason else Text(severity, _STYLES[severity])
            text = Text("".join(f"{printable(each.detail)}\n" for each in found))
            text.append(printable(reason or found[0].advice), "dim")
            table.add_row(level, Text(code), text)
        console.print(table)
        console.print()
    counts = Counter("waived" if each.waived else str(each.severity) for each in findings)
    summary = [f"{counts[each]} {each}{'s' if counts[each] > 1 else ''}" for each in Severity if counts[each]]
    summary = summary if counts[Severity.ERROR] or not summary else ["no errors", *summary]
    summary += [f"{counts['waived']} waived"] if counts["waived"] else []
    console.print(", ".join(summary) or "Nothing found.")
