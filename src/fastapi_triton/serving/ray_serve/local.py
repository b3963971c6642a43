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
from fastapi_triton.core.shutdown import ERROR_RESPONSE_S
from fastapi_triton.embedded.triton_process import LOOPBACK, EmbeddedTriton
from fastapi_triton.serving import listen_address
from fastapi_triton.serving.ray_serve.application import build
from fastapi_triton.serving.ray_serve.options import ClusterOptions, frontend_variables

logger = logging.getLogger(__name__)

APPLICATION = "fastapi-triton"
# How long Ray may take to call the frontend and return the result.
CALL_S = 5.0


class ClusterError(Exception):
    """The cluster cannot be started; the message is for the user."""


def run(app_name: str | None, replicas: int, models: Path, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        EmbeddedTritonError: this machine cannot run the embedded Triton, or there is no model repository.
        AppNotFoundError: the app does not exist.
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
    # Raise errors that every node would have before anything is started.
    EmbeddedTriton.prepare(models)
    app = load_app(app_name, is_bundled_repository=models.resolve() == bundle.model_repository().resolve())
    if isinstance(app, TritonFrontend):
        listen_address.warn_if_open(host, app.settings)
    # For Ray, CPUs are only a number: the Tritons share the real ones.
    num_cpus = max(os.cpu_count() or 1, int(replicas * options.cpus_per_triton) + options.frontends)
    # "local": a new cluster, even if Ray already runs on this machine.
    ray.init("local", num_cpus=num_cpus, include_dashboard=False, logging_level="warning")
    for number in (signal.SIGINT, signal.SIGTERM):  # only now: `ray.init` sets its own handler for SIGTERM
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
    except KeyboardInterrupt:  # during the start, or the second one
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        serve.shutdown()
        ray.shutdown()


def end(options: ClusterOptions) -> None:
    """Have the frontend finish its requests and reject new ones, while Ray's proxy still serves."""
    settings = options.frontend_settings
    limit_s = settings.shutdown_delay_s + settings.shutdown_grace_s + ERROR_RESPONSE_S + CALL_S
    try:
        serve.get_app_handle(APPLICATION).end.remote().result(timeout_s=limit_s)
    except (TimeoutError, RayError, RayServeException) as error:
        logger.warning("the frontend did not shut down in time, so Ray stops it now: %r", error)


def failures(error: RuntimeError) -> str:
    """All messages of an application that does not start. Ray Serve's error itself names only the deployment."""
    deployments = [each for app in serve.status().applications.values() for each in app.deployments.values()]
    return "\n".join([str(error), *(each.message for each in deployments)])


def reason(message: str) -> str:
    """Our own error message within Ray's message, a traceback; without one, the whole message."""
    sentences = [
        line.partition("Error: ")[2]
        for line in message.splitlines()
        if line.startswith("fastapi_triton.") and "Error: " in line
    ]
    return sentences[-1] if sentences else message
