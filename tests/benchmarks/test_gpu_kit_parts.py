# SPDX-License-Identifier: Apache-2.0
"""Single parts of the GPU kit, in cases that a run on a CPU does not meet."""

from typing import Any

import pytest
from diffusion_engine.errors import RequestError

from benchmarks.engine.job import Job
from benchmarks.gpu_kit import kernels, passes, pictures
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.cancellation import StepListener
from benchmarks.gpu_kit.plan import TINY


@pytest.fixture
def sent() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def bench(sent: list[tuple[str, Any]]) -> Bench:
    return Bench(plan=TINY, ends_at=0.0, send=lambda *message: sent.append(message))


def test_calls_that_stock_diffusers_cannot_run_cost_a_note(bench: Bench, sent: list[tuple[str, Any]]) -> None:
    class TooLarge:
        def generate(self, jobs: list[Job]) -> None:
            raise RuntimeError("Expected canUse32BitIndexMath to be true\nmore")

    stock: Any = TooLarge()
    assert pictures.stock_seconds(bench, stock, [Job(index=0, arrival=0, num_steps=4)]) is None
    ((kind, text),) = sent
    assert kind == "note"
    assert text.endswith("1 pictures at once. RuntimeError: Expected canUse32BitIndexMath to be true")


def test_failed_request_ends_the_wait_for_its_steps() -> None:
    listener = StepListener()
    listener.progress(1, 4, None)
    listener.failed(RequestError("generation_failed", "It broke."))
    listener.wait_for_reports(1)
    with pytest.raises(RequestError, match="It broke"):
        listener.wait_for_reports(2)
    with pytest.raises(RequestError, match="It broke"):
        listener.wait()


def test_kernels_decide_nothing_without_a_measurement(bench: Bench, sent: list[tuple[str, Any]]) -> None:
    kernels.decide(bench, gains=[], shares=[], graph_gains=[], launch=40.0)
    assert sent == []


@pytest.mark.parametrize(
    ("ratios", "follows"),
    [
        ([0.8, 0.9, 1.06], "Use channels_last."),
        ([0.97, 1.06], "They are equal; keep channels_last."),
        ([1.0, 1.3], "Use contiguous tensors."),
    ],
)
def test_layout_is_decided_by_the_average(
    bench: Bench,
    sent: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    ratios: list[float],
    follows: str,
) -> None:
    def times(_: Bench, layout: str) -> passes.Times:
        found = {((64, 64), rows): ratio for rows, ratio in enumerate([9.0, *ratios], start=1)}
        return found if layout == "channels_last" else dict.fromkeys(found, 1.0)

    monkeypatch.setattr(passes, "measure_layout", times)
    passes.measure(bench)
    assert [content["follows"] for _, content in sent] == [follows]
