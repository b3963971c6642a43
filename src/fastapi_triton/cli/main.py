# SPDX-License-Identifier: Apache-2.0
"""The command line: `fastapi-triton serve`, `generate`, `keys`, `init`, `check`, `openapi` and `perf`."""

import contextlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from fastapi_triton.app.loader import AppNotFoundError, load_app
from fastapi_triton.cli import check_commands, setting_flags
from fastapi_triton.cli import keys as keys_command
from fastapi_triton.cli.generate import command as generate_command
from fastapi_triton.cli.jobs_folder import default_folder
from fastapi_triton.cli.perf.command import perf
from fastapi_triton.core import bundle
from fastapi_triton.core.settings import Settings
from fastapi_triton.embedded import preflight
from fastapi_triton.embedded.installation import EmbeddedTritonError, require_machine
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.middleware import stack as access_stack
from fastapi_triton.middleware.auth.keys import KeyFileError
from fastapi_triton.observability import logging_config
from fastapi_triton.observability.logging_config import printable_lines
from fastapi_triton.serving import run
from fastapi_triton.serving.supervisor import WorkersPlan

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

app.command("check")(check_commands.check_command)
app.command("openapi")(check_commands.openapi_command)
app.add_typer(keys_command.app, name="keys")


@app.callback()
def main() -> None:
    """HTTP endpoints in front of NVIDIA Triton Inference Server."""


@app.command("serve")
@setting_flags.added(besides=("triton_url",))
def serve_command(
    app_name: Annotated[
        str | None,
        typer.Argument(metavar="[APP]", help="module:attribute; by default main:app where there is a main.py."),
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Triton beside the frontend.")] = False,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|s3://BUCKET/PREFIX",
            help="The embedded Triton's model repository; by default ./models, else the bundled one.",
        ),
    ] = None,
    models_cache: Annotated[
        Path | None,
        typer.Option(
            envvar="FASTAPI_TRITON_MODELS_CACHE",
            help="Where models from S3 are kept; by default ~/.cache/fastapi-triton/models.",
        ),
    ] = None,
    triton: Annotated[
        str | None, typer.Option("--triton", metavar="URL", help=Settings.model_fields["triton_url"].description)
    ] = None,
    cluster: Annotated[
        int | None,
        typer.Option("--cluster", metavar="N", min=1, help="Start so many Tritons in a Ray cluster on this machine."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve the port; each has limits of its own.")] = 1,
    **settings: object,
) -> None:
    """Serve an app, in front of a Triton that runs elsewhere or of an embedded one."""
    if embedded and triton:
        _fail("--embedded starts a Triton of its own; leave it out to use --triton, or the other way round.")
    if models and not (embedded or cluster):
        _fail("--models is for the embedded Triton; add --embedded.")
    if cluster:
        _require_cluster(embedded=embedded, triton=triton, workers=workers)
    taken = preflight.port_obstacle(host, port)
    if taken is not None:
        _fail(taken.sentence)
    if settings["generate"] is None and "FASTAPI_TRITON_GENERATE" not in os.environ:
        settings["generate"] = True  # here, unlike in code, nobody declares which models are for callers
    if settings["jobs_folder"] is None and "FASTAPI_TRITON_JOBS_FOLDER" not in os.environ:
        settings["jobs_folder"] = default_folder(port)
    try:
        setting_flags.export({**settings, "triton_url": triton})
        logging_config.configure(Settings())
        access_stack.require_usable(Settings())
        with contextlib.ExitStack() as stack:
            repository = _model_repository(models, models_cache, stack)
            if cluster:
                _serve_cluster(app_name, cluster, repository, host, port)
                return
            beside = EmbeddedTriton.prepare(repository) if embedded else None
            setting_flags.export({"triton_url": beside.url if beside else None})
            is_bundled = embedded and repository.resolve() == bundle.model_repository().resolve()
            frontend = load_app(app_name, is_bundled_repository=is_bundled)
            several = WorkersPlan(workers, app_name, is_bundled) if workers > 1 else None
            run.run(run.Plan(frontend, host, port, beside, several))
    except ValidationError as error:
        _fail("\n".join(f"{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()))
    except (EmbeddedTritonError, S3ModelsError, AppNotFoundError, KeyFileError) as error:
        _fail(str(error))


def _model_repository(models: str | None, cache: Path | None, stack: contextlib.ExitStack) -> Path:
    """The folder that is meant; models in S3 are brought here, and held until the stack is closed.

    Raises:
        EmbeddedTritonError: they are in S3, and this machine could not serve them anyway.
        S3ModelsError: they do not come.
    """
    if not models:
        return Path("models") if Path("models").is_dir() else bundle.model_repository()
    if not models.startswith("s3://"):
        if "://" in models:
            raise S3ModelsError(f"--models takes a folder or s3://bucket/prefix, and not {redacted(models)}.")
        return Path(models)
    if not all(importlib.util.find_spec(name) for name in ("boto3", "awscrt")):
        raise S3ModelsError(f"{redacted(models)} needs a package: pip install 'fastapi-triton[embedded,s3]'")
    require_machine()
    from fastapi_triton.embedded.s3_repository.fetch import fetch  # needs the extra

    return stack.enter_context(fetch(models, cache=cache)).models


def _require_cluster(*, embedded: bool, triton: str | None, workers: int) -> None:
    if embedded or triton:
        _fail("--cluster starts Tritons of its own; leave out --embedded and --triton.")
    if workers > 1:
        _fail("--workers is for one machine without Ray; in a cluster `frontends` says how many (docs/scaling.md).")
    if importlib.util.find_spec("ray") is None:
        _fail("--cluster needs Ray Serve: pip install 'fastapi-triton[cluster,embedded]'")


def _serve_cluster(app_name: str | None, replicas: int, repository: Path, host: str, port: int) -> None:
    from fastapi_triton.serving.ray_serve import environment

    environment.configure_ray()  # before Ray is imported
    from fastapi_triton.serving.ray_serve import local  # needs the extra

    try:
        local.run(app_name, replicas, repository, host, port)
    except local.ClusterError as error:
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


def _fail(reason: str) -> NoReturn:
    typer.echo(printable_lines(reason), err=True)
    sys.exit(2)
