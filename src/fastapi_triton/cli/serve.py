# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton serve`: its options, the model repository, and the folder for jobs."""

import contextlib
import hashlib
import importlib.util
import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fastapi_triton.app.loader import AppNotFoundError, load_app
from fastapi_triton.cli import setting_flags
from fastapi_triton.cli.errors import fail, invalid_settings
from fastapi_triton.core import bundle
from fastapi_triton.core.settings import Settings
from fastapi_triton.embedded import preflight
from fastapi_triton.embedded.installation import EmbeddedTritonError, require_machine
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.middleware import stack as middleware_stack
from fastapi_triton.middleware.auth.keys import KeyFileError
from fastapi_triton.observability import logging_config
from fastapi_triton.serving import run
from fastapi_triton.serving.supervisor import WorkersPlan
from fastapi_triton.triton.http_client import NO_GRPC

logger = logging.getLogger(__name__)


@setting_flags.add(except_for=("triton_url",))
def serve(
    app_name: Annotated[
        str | None,
        typer.Argument(metavar="[APP]", help="module:attribute; by default main:app if there is a main.py."),
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start a Triton beside the frontend, from a Python wheel.")
    ] = False,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|s3://BUCKET/PREFIX",
            help="The embedded Triton's model repository; by default ./models if it exists, else the bundled one.",
        ),
    ] = None,
    models_cache: Annotated[
        Path | None,
        typer.Option(
            envvar="FASTAPI_TRITON_MODELS_CACHE",
            help="Folder for models from S3; by default ~/.cache/fastapi-triton/models.",
        ),
    ] = None,
    triton: Annotated[
        str | None, typer.Option("--triton", metavar="URL", help=Settings.model_fields["triton_url"].description)
    ] = None,
    cluster: Annotated[
        int | None,
        typer.Option("--cluster", metavar="N", min=1, help="Start N Tritons in a Ray cluster on this machine."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Frontend processes on the port; each has its own limits.")] = 1,
    **settings: object,
) -> None:
    """Serve an app in front of a Triton, which runs elsewhere or embedded."""
    if embedded and triton:
        fail("--embedded starts its own Triton, and --triton names another one. Use one of the two.")
    if models and not (embedded or cluster):
        fail("--models needs an embedded Triton; add --embedded.")
    if cluster:
        _require_cluster(embedded=embedded, triton=triton, workers=workers)
    obstacle = preflight.port_obstacle(host, port)
    if obstacle is not None:
        fail(obstacle.sentence)
    if settings["generate"] is None and "FASTAPI_TRITON_GENERATE" not in os.environ:
        settings["generate"] = True  # there may be no app that declares endpoints
    if settings["jobs_folder"] is None and "FASTAPI_TRITON_JOBS_FOLDER" not in os.environ:
        settings["jobs_folder"] = default_jobs_folder(port)
    try:
        setting_flags.export({**settings, "triton_url": triton})
        logging_config.configure(Settings())
        _require_usable(Settings())
        with contextlib.ExitStack() as stack:
            repository = _model_repository(models, models_cache, stack)
            if cluster:
                _serve_cluster(app_name, cluster, repository, host, port)
                return
            embedded_triton = _embedded_triton(repository) if embedded else None
            is_bundled = embedded and repository.resolve() == bundle.model_repository().resolve()
            frontend = load_app(app_name, is_bundled_repository=is_bundled)
            workers_plan = WorkersPlan(workers, app_name, is_bundled) if workers > 1 else None
            run.run(run.Plan(frontend, host, port, embedded_triton, workers_plan))
    except ValidationError as error:
        fail(invalid_settings(error))
    except (EmbeddedTritonError, S3ModelsError, AppNotFoundError, KeyFileError) as error:
        fail(str(error))


def _require_usable(settings: Settings) -> None:
    """Check what can fail only when the app starts.

    Raises:
        KeyFileError: the API key file cannot be used.
    """
    middleware_stack.require_usable(settings)
    if settings.triton_grpc_url and not _has_grpc():
        fail(NO_GRPC)


def _has_grpc() -> bool:
    """Whether the extra `grpc` is installed."""
    return all(importlib.util.find_spec(name) for name in ("grpc", "tritonclient"))


def _embedded_triton(repository: Path) -> EmbeddedTriton:
    """The Triton to start. Its URLs are in the environment, from which the app reads its settings.

    Raises:
        EmbeddedTritonError: this machine cannot run it.
    """
    if Settings().triton_grpc_url:
        fail("--embedded starts its own Triton, and TRITON_GRPC_URL names another one. Use one of the two.")
    triton = EmbeddedTriton.prepare(repository, has_grpc=_has_grpc())
    setting_flags.export({"triton_url": triton.url, "triton_grpc_url": triton.grpc_url or ""})
    return triton


def _model_repository(models: str | None, cache: Path | None, stack: contextlib.ExitStack) -> Path:
    """The model repository's folder. Models from S3 are downloaded, and stay until the stack is closed.

    Raises:
        EmbeddedTritonError: the models are in S3, and this machine cannot run an embedded Triton.
        S3ModelsError: the download failed.
    """
    if not models:
        return Path("models") if Path("models").is_dir() else bundle.model_repository()
    if not models.startswith("s3://"):
        if "://" in models:
            raise S3ModelsError(f"--models must be a folder or s3://bucket/prefix, not {redacted(models)}.")
        return Path(models)
    if not all(importlib.util.find_spec(name) for name in ("boto3", "awscrt")):
        raise S3ModelsError("Models from S3 need more packages: pip install 'fastapi-triton[embedded,s3]'")
    require_machine()
    from fastapi_triton.embedded.s3_repository.fetch import fetch  # needs the extra

    return stack.enter_context(fetch(models, cache=cache)).models


def _require_cluster(*, embedded: bool, triton: str | None, workers: int) -> None:
    if embedded or triton:
        fail("--cluster starts its own Tritons. Remove --embedded and --triton.")
    if workers > 1:
        fail("--workers works only without Ray. In a cluster, set `frontends` (docs/scaling.md).")
    if importlib.util.find_spec("ray") is None:
        fail("--cluster needs Ray Serve: pip install 'fastapi-triton[cluster,embedded]'")


def _serve_cluster(app_name: str | None, replicas: int, repository: Path, host: str, port: int) -> None:
    from fastapi_triton.serving.ray_serve import environment

    environment.configure_ray()  # before Ray is imported
    from fastapi_triton.serving.ray_serve import local  # needs the extra

    try:
        local.run(app_name, replicas, repository, host, port)
    except local.ClusterError as error:
        fail(str(error))


def default_jobs_folder(port: int) -> str:
    """The default folder of background jobs: one for each working folder and port, in the user's XDG state folder.

    It is empty, so that jobs are off, if the extra `jobs` is not installed or the user has no home folder.
    """
    if importlib.util.find_spec("dbos") is None:
        return ""
    here = Path.cwd()
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a user without a home folder, as in containers
        logger.warning(
            "background jobs are off: this user has no home folder. "
            "Set --jobs-folder or XDG_STATE_HOME to turn them on."
        )
        return ""
    name = hashlib.sha256(os.fsencode(here)).hexdigest()[:12]
    return str(state / "fastapi-triton" / "jobs" / f"{here.name or 'root'}-{name}-{port}")
