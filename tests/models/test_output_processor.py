# SPDX-License-Identifier: Apache-2.0
"""The output thread pauses between passes, but never for long."""

import threading

import pytest
from diffusion_engine import output_processor
from diffusion_engine.output_processor import OutputProcessor
from listening import PATIENCE_S


def test_output_thread_works_while_a_pass_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_processor, "MAX_PAUSE_S", 2 * PATIENCE_S)
    processor, is_sent, is_running, order = OutputProcessor(), threading.Event(), threading.Event(), []
    with processor.working():
        pass  # a pass has ended
    processor._tasks.put(lambda: order.append(is_running.is_set()))
    processor._tasks.put(is_sent.set)
    processor.start()
    is_running.set()
    with processor.working():
        assert is_sent.wait(PATIENCE_S)
    assert order == [True]
    with processor.working():
        processor.stop()


def test_pause_ends_if_no_pass_follows() -> None:
    processor = OutputProcessor()
    with processor.working():
        pass
    processor.start()
    processor.flush(PATIENCE_S)
    processor.stop()
    assert processor._tasks.empty()
