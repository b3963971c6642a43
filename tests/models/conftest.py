# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the demo checkpoint, loaded once; engines with it, running or driven step by step; the Triton model."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from diffusion_engine.capabilities import Capabilities
from drawings import CHECKPOINT, VERSION_FOLDER

# Not imported at run time: half of the tests need no torch, and start faster without it.
if TYPE_CHECKING:
    from diffusion_engine.engine import Engine
    from diffusion_engine.networks import Networks
    from diffusion_engine.request_state import GeneratedPicture
    from listening import Driver
    from stock import StockPipeline


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    """Those of the demo checkpoint, but small pictures are the default: they take a quarter of the time."""
    return Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"width": 128, "height": 128})


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """diffusers' own pipeline with the demo checkpoint."""
    from diffusion_engine.config import EngineConfig
    from diffusion_engine.weights import load_pipeline

    return load_pipeline(EngineConfig.read({}, {"SDXL_DEVICE": "cpu"}, version_folder=VERSION_FOLDER))


@pytest.fixture(scope="session")
def networks() -> "Networks":
    """The engine's networks with its default optimizations. They share nothing with `pipeline`."""
    from diffusion_engine.config import EngineConfig
    from diffusion_engine.optimization import optimized_networks
    from diffusion_engine.weights import load_pipeline

    config = EngineConfig.read({}, {"SDXL_DEVICE": "cpu"}, version_folder=VERSION_FOLDER)
    return replace(
        optimized_networks(config, load_pipeline(config)), cpu_parallel_size=2
    )  # as on any CPU with two cores


@pytest.fixture(scope="session")
def stock(pipeline: Any, capabilities: Capabilities) -> "StockPipeline":
    from stock import StockPipeline

    return StockPipeline(pipeline, capabilities)


@pytest.fixture(scope="session")
def make_engine(networks: "Networks", capabilities: Capabilities) -> Callable[..., "Engine"]:
    """Makes an engine that is not started. Its `networks` and other arguments of `Engine` can be replaced."""
    from diffusion_engine.engine import Engine
    from diffusion_engine.row_limits import RowLimits

    def make(
        *, max_rows: int = 8, networks: "Networks" = networks, capabilities: Capabilities = capabilities, **options: Any
    ) -> "Engine":
        return Engine(networks, capabilities, RowLimits({}, default=max_rows), **options)

    return make


@pytest.fixture
def make_driver(make_engine: Callable[..., "Engine"]) -> Iterator[Callable[..., "Driver"]]:
    """Makes an engine that the test drives step by step."""
    from listening import Driver

    with ExitStack() as stack:

        def make(**options: Any) -> "Driver":
            driver = Driver(make_engine(**options))
            stack.callback(driver.stop)
            return driver

        yield make


@pytest.fixture
def driver(make_driver: Callable[..., "Driver"]) -> "Driver":
    return make_driver()


@pytest.fixture(scope="session")
def running_engine(make_engine: Callable[..., "Engine"]) -> Iterator["Engine"]:
    engine = make_engine(max_rows=8)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def generate(running_engine: "Engine") -> Callable[..., "GeneratedPicture"]:
    """Sends a request, with values by tensor name, and waits for its picture."""
    from listening import submit

    def run(**values: Any) -> "GeneratedPicture":
        return submit(running_engine, **values).picture()

    return run


@pytest.fixture
def encoded_texts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of each pass of the text encoders."""
    from diffusion_engine.text_encoder import TextEncoder

    calls: list[list[str]] = []
    read = TextEncoder._read

    def note(encoder: Any, keys: Any) -> Any:
        calls.append([key.text for key in keys])
        return read(encoder, keys)

    monkeypatch.setattr(TextEncoder, "_read", note)
    return calls


@pytest.fixture
def without_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a numeric user: no HOME, and no entry in the user database."""
    monkeypatch.delenv("HOME", raising=False)

    def no_entry(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", no_entry)


@pytest.fixture(scope="session")
def module() -> Any:
    """The engine's `model.py`."""
    import triton_backend

    triton_backend.backend()
    spec = importlib.util.spec_from_file_location("engine_model_under_test", VERSION_FOLDER / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_model(module: Any, make_engine: Callable[..., "Engine"]) -> Iterator[Callable[..., Any]]:
    """The model as after `initialize`, but with networks that are already loaded."""
    from stream_model import INPUTS
    from triton_backend import LOG

    models: list[Any] = []

    def make(**options: Any) -> Any:
        model = module.TritonPythonModel()
        model.input_names = list(INPUTS)
        model.engine = make_engine(**options)
        model.watcher = module.Watcher(model.engine.metrics)
        model.engine.start()
        model.watcher.start()
        models.append(model)
        return model

    LOG.clear()
    yield make
    for model in models:
        model.finalize()


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model()
