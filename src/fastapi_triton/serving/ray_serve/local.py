# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton serve --cluster N`: Ray, the frontend and N Tritons on this machine, until Ctrl-C or SIGTERM."""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.app.loader import load_app
from fastapi_triton.core import bundle
from fastapi_triton.core.shutdown import STOPPED_ANSWER_S
from fastapi_triton.embedded.triton_process import LOOPBACK, EmbeddedTriton
from fastapi_triton.serving import listen_address
from fastapi_triton.serving.ray_serve.application import build
from fastapi_triton.serving.ray_serve.options import ClusterOptions, frontend_variables

logger = logging.getLogger(__name__)

APPLICATION = "fastapi-triton"
# How long Ray may take to ask the frontend, and to bring its answer.
ANSWER_S = 5.0


class ClusterError(Exception):
    """The cluster cannot be started; the text is for a person."""


def run(app_name: str | None, replicas: int, models: Path, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        EmbeddedTritonError: this machine cannot run the embedded Triton, or there is no model repository.
        AppNotFoundError: there is no such app.
        ClusterError: the Tritons do not start.
    """
    options = ClusterOptions(
        app=app_name,
        folder=str(Path.cwd()),
        models=str(models.resolve()),
        replicas=replicas,
        address=LOOPBACK,
        settings=frontend_variables(os.environ),
    )
    # Errors that every node would have are raised here, before anything is started.
    EmbeddedTriton.prepare(models)
    app = load_app(app_name, is_bundled_repository=models.resolve() == bundle.model_repository().resolve())
    if isinstance(app, TritonFrontend):
        listen_address.warn_if_open(host, app.settings)
    # Ray's processors are a count, not the real ones: Tritons share what there is.
    num_cpus = max(os.cpu_count() or 1, int(replicas * options.cpus_per_triton) + options.frontends)
    # "local": a cluster of its own, whatever else of Ray runs on this machine.
    ray.init("local", num_cpus=num_cpus, include_dashboard=False, logging_level="warning")
    for number in (signal.SIGINT, signal.SIGTERM):  # only now: Ray has taken SIGTERM for itself
        signal.signal(number, signal.default_int_handler)
    try:
        serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "WARNING"})
        serve.run(build(options), name=APPLICATION, route_prefix="/")
        sys.stdout.write(f"\n  Ready: http://{'localhost' if host == LOOPBACK else host}:{port}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            Event().wait()
        end(options)
    except RuntimeError as error:
        raise ClusterError(reason(failures(error))) from error
    except KeyboardInterrupt:  # while it started, or the second one
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        serve.shutdown()
        ray.shutdown()


def end(options: ClusterOptions) -> None:
    """Have the frontend finish what it has begun, while Ray's proxy still serves: it refuses what is new."""
    settings = options.frontend_settings
    limit_s = settings.shutdown_delay_s + settings.shutdown_grace_s + STOPPED_ANSWER_S + ANSWER_S
    try:
        serve.get_app_handle(APPLICATION).end.remote().result(timeout_s=limit_s)
    except (TimeoutError, RayError, RayServeException) as error:
        logger.warning("the frontend does not end by itself: %r", error)


def failures(error: RuntimeError) -> str:
    """All that Ray Serve says of an application that does not start: its error names only which part it was."""
    parts = [part for app in serve.status().applications.values() for part in app.deployments.values()]
    return "\n".join([str(error), *(part.message for part in parts)])


def reason(message: str) -> str:
    """The sentence of our own in what Ray says of a replica that did not start, a traceback; else all of it."""
    sentences = [
        line.partition("Error: ")[2]
        for line in message.splitlines()
        if line.startswith("fastapi_triton.") and "Error: " in line
    ]
    return sentences[-1] if sentences else message
