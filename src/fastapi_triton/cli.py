# SPDX-License-Identifier: Apache-2.0
"""The command line: `fastapi-triton serve`, `generate`, `init`, `check`, `openapi` and `perf`."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from fastapi_triton import bundle, logs, machine, offline, serve
from fastapi_triton.embedded import EmbeddedTriton, EmbeddedTritonError
from fastapi_triton.generate import command as generate_command
from fastapi_triton.perf.command import perf
from fastapi_triton.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

# The flags that set what `Settings` reads from the environment; a test holds the two lists together.
_HELP = {name: field.description or "" for name, field in Settings.model_fields.items()}


app.command("check")(offline.check_command)
app.command("openapi")(offline.openapi_command)


@app.callback()
def main() -> None:
    """HTTP endpoints in front of NVIDIA Triton Inference Server."""


@app.command("serve")
def serve_command(
    app_name: Annotated[
        str | None,
        typer.Argument(metavar="[APP]", help="module:attribute; by default main:app where there is a main.py."),
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Triton beside the frontend.")] = False,
    models: Annotated[
        Path | None,
        typer.Option(help="The embedded Triton's model repository; by default ./models, else the bundled one."),
    ] = None,
    triton: Annotated[str | None, typer.Option("--triton", metavar="URL", help=_HELP["triton_url"])] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8080,
    connect_timeout_s: Annotated[float | None, typer.Option(help=_HELP["connect_timeout_s"])] = None,
    request_timeout_s: Annotated[float | None, typer.Option(help=_HELP["request_timeout_s"])] = None,
    watch_interval_s: Annotated[float | None, typer.Option(help=_HELP["watch_interval_s"])] = None,
    max_in_flight: Annotated[int | None, typer.Option(help=_HELP["max_in_flight"])] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help=_HELP["max_body_bytes"])] = None,
    max_image_pixels: Annotated[int | None, typer.Option(help=_HELP["max_image_pixels"])] = None,
    v2: Annotated[bool | None, typer.Option("--v2/--no-v2", help=_HELP["v2"])] = None,
    v2_admin: Annotated[bool | None, typer.Option("--v2-admin/--no-v2-admin", help=_HELP["v2_admin"])] = None,
    generate: Annotated[
        bool | None, typer.Option(help="Give every ready model an endpoint, POST /models/{name}/infer; on by default.")
    ] = None,
    openai_api: Annotated[bool | None, typer.Option("--openai-api/--no-openai-api", help=_HELP["openai_api"])] = None,
    a1111_api: Annotated[bool | None, typer.Option("--a1111-api/--no-a1111-api", help=_HELP["a1111_api"])] = None,
    playground: Annotated[bool | None, typer.Option("--playground/--no-playground", help=_HELP["playground"])] = None,
    log_level: Annotated[str | None, typer.Option(help=_HELP["log_level"])] = None,
    log_format: Annotated[str | None, typer.Option(help=_HELP["log_format"])] = None,
) -> None:
    """Serve an app, in front of a Triton that runs elsewhere or of an embedded one."""
    if embedded and triton:
        _fail("--embedded starts a Triton of its own; leave it out to use --triton, or the other way round.")
    if models and not embedded:
        _fail("--models is for the embedded Triton; add --embedded.")
    taken = machine.port_obstacle(host, port)
    if taken is not None:
        _fail(taken.sentence)
    if generate is None and "FASTAPI_TRITON_GENERATE" not in os.environ:
        generate = True  # here, unlike in code, nobody declares which models are for callers
    repository = models or (Path("models") if Path("models").is_dir() else bundle.model_repository())
    try:
        beside = EmbeddedTriton.prepare(repository) if embedded else None
        _export(
            triton_url=beside.url if beside else triton,
            connect_timeout_s=connect_timeout_s,
            request_timeout_s=request_timeout_s,
            watch_interval_s=watch_interval_s,
            max_in_flight=max_in_flight,
            max_body_bytes=max_body_bytes,
            max_image_pixels=max_image_pixels,
            v2=v2,
            v2_admin=v2_admin,
            generate=generate,
            openai_api=openai_api,
            a1111_api=a1111_api,
            playground=playground,
            log_level=log_level,
            log_format=log_format,
        )
        logs.configure(Settings())
        is_bundled = embedded and repository.resolve() == bundle.model_repository().resolve()
        frontend = serve.load_app(app_name, is_bundled_repository=is_bundled)
        serve.run(serve.Plan(frontend, host, port, beside))
    except ValidationError as error:
        _fail("\n".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors()))
    except (EmbeddedTritonError, serve.AppNotFoundError) as error:
        _fail(str(error))


app.command("perf")(perf)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")]) -> None:
    """Write a `main.py` and a model repository to edit."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _fail(f"{folder} is there already, and not empty. Choose another name.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundle.app_folder() / "main.py", folder / "main.py")
    shutil.copytree(bundle.model_repository(), folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bundle.examples() / "house.png", folder / "scribble.png")
    typer.echo(f"Wrote {folder}: main.py (your endpoints), models/ (your Triton models), scribble.png.")
    typer.echo(f"Start it: cd {folder} && fastapi-triton serve --embedded")


app.command("generate", epilog=generate_command.EPILOG)(generate_command.command)


def _export(**settings: object) -> None:
    """Flags win over the environment; both reach the app by the environment."""
    for name, value in settings.items():
        if value is not None:
            os.environ["TRITON_URL" if name == "triton_url" else f"FASTAPI_TRITON_{name.upper()}"] = str(value)


def _fail(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    sys.exit(2)
