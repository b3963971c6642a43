# SPDX-License-Identifier: Apache-2.0
"""The command line: `fastapi-triton serve`, `generate`, `keys`, `init`, `check`, `openapi` and `perf`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from fastapi_triton.cli import keys
from fastapi_triton.cli.check.command import check_command, openapi_command
from fastapi_triton.cli.errors import fail
from fastapi_triton.cli.generate import command as generate_command
from fastapi_triton.cli.perf.command import perf
from fastapi_triton.cli.serve import serve
from fastapi_triton.core import bundle

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Typed HTTP endpoints in front of NVIDIA Triton Inference Server."""


def init(folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")]) -> None:
    """Write a `main.py` and a model repository to edit."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(f"{folder} is there already, and not empty. Choose another name.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"The folder {folder} cannot be made ({error.strerror or error}). Choose another one.")
    shutil.copy(bundle.app_folder() / "main.py", folder / "main.py")
    shutil.copytree(bundle.model_repository(), folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bundle.examples() / "house.png", folder / "scribble.png")
    shutil.copy(Path(__file__).with_name("init_readme.md"), folder / "README.md")
    typer.echo(f"Wrote {folder}: main.py (your endpoints), models/ (your Triton models), scribble.png, README.md.")
    typer.echo(f"Start it: cd {folder} && fastapi-triton serve --embedded")


app.command("check")(check_command)
app.command("openapi")(openapi_command)
app.add_typer(keys.app, name="keys")
app.command("serve")(serve)
app.command("perf")(perf)
app.command("init")(init)
app.command("generate", epilog=generate_command.EPILOG)(generate_command.command)
