# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: the apps of the tests in front of a fake Triton, and servers with a real one."""

import gc
import importlib.util
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import settings as hypothesis_settings

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.context import current_caller, current_deadline, current_request_id
from fastapi_triton.core.request_record import current_record
from fastapi_triton.core.slot import current_slot
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support import odd_repository
from support.paths import ROOT
from support.scribble_app import MODEL, PATH, base64_picture, config_of_file, paint
from support.scripted_stream_model import ScriptedStreamModel
from support.serving import COUNT_APP, ECHO_APP, Server, serving

# Two test processes share the cores: OpenMP's threads, here and in servers, must not spin while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# The first starts of an engine would measure passes for seconds, and on busy cores wrongly.
os.environ.setdefault("SDXL_MAX_ROWS", "8")
# torch imports the GPU language `triton` if it finds it, and would import the folder tests/triton.
gpu_language = importlib.util.find_spec("triton")
if gpu_language is not None and gpu_language.origin is None:
    sys.modules["triton"] = None  # type: ignore[assignment]
# The same examples every time, on slow machines too; `make fuzz` draws new ones.
hypothesis_settings.register_profile("tests", deadline=None, derandomize=True, database=None, max_examples=40)
hypothesis_settings.load_profile("tests")
# Background processes of a shell ignore Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


pytest_plugins = ["support.skips"]

# Without the extra `embedded`, only the frontend can be tested.
HAS_EMBEDDED = all(importlib.util.find_spec(name) for name in ("pytriton", "torch"))
collect_ignore = [] if HAS_EMBEDDED else ["benchmarks", "demo", "full_size", "models"]

OF_A_REQUEST = (current_caller, current_deadline, current_record, current_slot, current_request_id)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without garbage collection, which takes a third of the time: nearly all objects stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
        if not HAS_EMBEDDED and item.get_closest_marker("integration"):
            item.add_marker(pytest.mark.skip(reason="the extra `embedded` is not installed"))


@pytest.fixture
def scribble_config() -> ModelConfig:
    return config_of_file(ROOT / "models" / MODEL / "config.pbtxt")


@pytest.fixture
async def stream_model() -> ScriptedStreamModel:
    return ScriptedStreamModel()


@pytest.fixture
def triton(scribble_config: ModelConfig) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config, paint)
    return fake


@pytest.fixture
def settings() -> Settings:
    """Without the APIs of OpenAI and A1111, whose routes take longer to make than all others."""
    return Settings(
        openai_api=False,
        a1111_api=False,
        max_body_bytes=200_000,
        max_image_pixels=1_000_000,
        max_in_flight=2,
        max_waiting=0,
    )


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    frontend = TritonFrontend(triton=triton, settings=settings)
    frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    return frontend


@pytest.fixture
async def client(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield http


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """A valid request with some fields changed; None removes a field."""

    def make(**changes: Any) -> dict[str, Any]:
        fields = {"prompt": "a red house", "image": base64_picture(), **changes}
        return {name: value for name, value in fields.items() if value is not None}

    return make


@pytest.fixture(scope="session")
def scribble_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The clone's own app and model repository, from a folder with a space.

    Pictures have two steps by default: they take a third of the time.
    """
    folder = tmp_path_factory.mktemp("a newcomer's folder")
    shutil.copy(ROOT / "main.py", folder)
    (folder / "models").symlink_to(ROOT / "models")
    environment = {**os.environ, "SDXL_DEFAULTS": json.dumps({"num_inference_steps": 2})}
    with serving("--embedded", "--jobs-folder", str(folder / "jobs"), folder=folder, environment=environment) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="session")
def echo_server() -> Iterator[Server]:
    with serving("--embedded", "--v2-compressed", folder=ECHO_APP) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="session")
def count_server() -> Iterator[Server]:
    """In front of a decoupled model."""
    with serving("--embedded", folder=COUNT_APP) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="session")
def odd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Generated endpoints only, in front of the odd models; no `main.py`."""
    folder = tmp_path_factory.mktemp("odd")
    odd_repository.make(folder / "models")
    with serving("--embedded", "--watch-interval-s", "0.2", folder=folder) as server:
        yield server.wait_until_ready()


@pytest.fixture
def echo_servers() -> Iterator[Callable[..., Server]]:
    """Servers that the test may kill."""
    servers: list[Server] = []

    def start(*arguments: str, port: int | None = None, folder: Path = ECHO_APP) -> Server:
        server = Server(
            [sys.executable, "-m", "fastapi_triton", "serve", "--embedded", *arguments], folder=folder, port=port
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.drop()


@pytest.fixture(autouse=True)
def no_request_outlives_its_test() -> Iterator[None]:
    """Reset the slot, deadline and caller in the context, or the next test would see them; coroutines have a copy."""
    before = [variable.get() for variable in OF_A_REQUEST]
    yield
    assert [variable.get() for variable in OF_A_REQUEST] == before


@pytest.fixture(autouse=True)
def no_log_outlives_its_stream() -> Iterator[None]:
    """Remove the log handlers of commands that a test runs; their stream is closed afterwards."""
    before = logging.root.handlers[:]
    yield
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            logging.root.removeHandler(handler)
