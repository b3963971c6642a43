# SPDX-License-Identifier: Apache-2.0
"""The demo checkpoint, loaded once; engines made from it, running or driven step by step."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from diffusion_engine.capabilities import Capabilities
from drawings import CHECKPOINT, VERSION_FOLDER

# Not imported here: half of the tests need no torch, and start at once without it.
if TYPE_CHECKING:
    from diffusion_engine.engine import Engine
    from diffusion_engine.networks import Networks
    from diffusion_engine.request_state import GeneratedPicture
    from listening import Driver
    from stock import StockPipeline


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    return Capabilities.of_checkpoint(str(CHECKPOINT))


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """diffusers' own pipeline with the demo checkpoint in it."""
    from diffusion_engine.config import EngineConfig
    from diffusion_engine.weights import load_pipeline

    return load_pipeline(EngineConfig.read({}, {"SDXL_DEVICE": "cpu"}, version_folder=VERSION_FOLDER))


@pytest.fixture(scope="session")
def networks() -> "Networks":
    """As the engine makes them by default: they share nothing with `pipeline`, which stays as diffusers has it."""
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
    """An engine that is not started; `networks` and everything that `Engine` takes may be replaced."""
    from diffusion_engine.engine import Engine
    from diffusion_engine.row_limits import RowLimits

    def make(
        *, max_rows: int = 8, networks: "Networks" = networks, capabilities: Capabilities = capabilities, **options: Any
    ) -> "Engine":
        return Engine(networks, capabilities, RowLimits({}, default=max_rows), **options)

    return make


@pytest.fixture
def make_driver(make_engine: Callable[..., "Engine"]) -> Iterator[Callable[..., "Driver"]]:
    """An engine whose steps the test makes itself."""
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
    """One request by its tensors' names, waited for."""
    from listening import visit

    def run(**values: Any) -> "GeneratedPicture":
        return visit(running_engine, **values).picture()

    return run


@pytest.fixture
def encoded_texts(networks: "Networks", monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the text encoders were asked for, call by call."""
    calls: list[list[str]] = []
    encode = networks.pipeline.encode_prompt

    def note(texts: list[str], **options: Any) -> Any:
        calls.append(texts)
        return encode(texts, **options)

    monkeypatch.setattr(networks.pipeline, "encode_prompt", note)
    return calls


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: no HOME, and nobody of that number."""
    monkeypatch.delenv("HOME", raising=False)

    def nobody(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
