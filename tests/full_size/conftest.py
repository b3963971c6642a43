# SPDX-License-Identifier: Apache-2.0
"""One engine with full-size networks for all tests of this folder, and a report of time and memory."""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks import ROOT

REPORT = ROOT / "benchmarks" / "results" / "full-size.md"


@dataclass
class FullSize:
    """The engine and its parts, for the tests."""

    engine: Any
    networks: Any
    capabilities: Any
    small_side: int  # of pictures with many passes
    large: tuple[int, int]  # the size of a picture with one pass
    facts: dict[str, str] = field(default_factory=dict)  # for the report: name → time, size or memory


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


@pytest.fixture(scope="session")
def full_size() -> Iterator[FullSize]:
    from diffusion_engine.capabilities import SDXL_SIZES, Capabilities
    from diffusion_engine.engine import Engine
    from diffusion_engine.networks import Networks
    from diffusion_engine.row_limits import RowLimits

    from benchmarks.engine.random_weights import make_pipeline
    from benchmarks.engine.torch_device import computes_in_bfloat16

    started = time.monotonic()
    networks = Networks.of_pipeline(make_pipeline())
    # Not one of SDXL's sizes, to save time: without bfloat16 instructions, passes take many times as long.
    small_side, large = (512, (1344, 768)) if computes_in_bfloat16() else (256, (512, 512))
    capabilities = Capabilities(name="random", sizes=(*SDXL_SIZES, (512, 512), (256, 256)))
    engine = Engine(networks, capabilities, RowLimits({}, default=4))
    built = FullSize(engine, networks, capabilities, small_side, large)
    how = "bfloat16" if computes_in_bfloat16() else "bfloat16, computed in float32 (no bfloat16 in this processor)"
    built.facts["weights"] = how
    built.facts["building the networks"] = f"{time.monotonic() - started:.0f} s"
    engine.start()
    yield built
    engine.stop()


@pytest.fixture(autouse=True)
def report(full_size: FullSize) -> Iterator[None]:
    """Write the report after every test, so that an interrupted run has one too."""
    yield
    full_size.facts["peak memory"] = f"{peak_gb():.1f} GB"
    write_report(full_size)


def write_report(built: FullSize) -> None:
    import torch

    from benchmarks.engine import torch_device

    lines = [
        "# SDXL and its scribble ControlNet at full size, with random weights",
        "",
        "Real configurations with random weights: the run shows that the engine supports the architecture, and",
        "measures its memory. The pictures are noise, and the CPU may have had other work.",
        f"`make test-full-size`; {torch_device.describe(torch.device('cpu'))}.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in built.facts.items()),
    ]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n")
