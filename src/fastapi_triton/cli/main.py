# SPDX-License-Identifier: Apache-2.0
"""The command line: `fastapi-triton serve`, `generate`, `keys`, `init`, `add-model`, `check`, `openapi` and `perf`."""

import typer

from fastapi_triton.cli import keys
from fastapi_triton.cli.add_model import add_model
from fastapi_triton.cli.check.command import check_command, openapi_command
from fastapi_triton.cli.generate import command as generate_command
from fastapi_triton.cli.init.command import init
from fastapi_triton.cli.perf.command import perf
from fastapi_triton.cli.serve import serve

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Typed HTTP endpoints in front of NVIDIA Triton Inference Server."""


app.command("check")(check_command)
app.command("openapi")(openapi_command)
app.add_typer(keys.app, name="keys")
app.command("serve")(serve)
app.command("perf")(perf)
app.command("init")(init)
app.command("add-model")(add_model)
app.command("generate", epilog=generate_command.EPILOG)(generate_command.command)
