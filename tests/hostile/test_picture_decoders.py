# SPDX-License-Identifier: Apache-2.0
"""Pictures are decoded in separate processes. Cancelling, a deadline, a limit or the engine's end kills them."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from diffusion_engine import picture_decoder
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.fitted_picture import MaskDecoding, PictureDecoding
from diffusion_engine.metrics import EngineMetrics
from diffusion_engine.picture_decoder import PictureDecoder, memory_for
from diffusion_engine.picture_decoder_pool import Handlers, PictureDecoderPool
from diffusion_engine.pictures import examine
from diffusion_engine.placement import Placement
from diffusion_engine.preprocessing import preprocess
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import NullListener, RequestState
from diffusion_engine.scribble import Scribble, ScribbleDecoding, decode_scribble
from PIL import Image

from support.paths import ROOT
from support.picture_bombs import HARMLESS, as_file, drawing, png_chunk

ENGINE = ROOT / "models" / "sdxl_scribble_controlnet_stream" / "1"
CAPABILITIES = Capabilities.of_checkpoint(str(ENGINE / "demo_checkpoint"))
SCRIBBLES = sorted(path for path in (ROOT / "tests" / "data" / "scribbles").iterdir() if path.suffix != ".json")
MAX_PIXELS = 50_000_000
PATIENCE_S = 60


def make_state(image: bytes | None = None, timeout_s: float | None = None) -> RequestState:
    values = {"prompt": b"x", "image": image or as_file(drawing()), "timeout_s": timeout_s}
    return RequestState(request=parse_request(values, CAPABILITIES), listener=NullListener(), arrived=time.monotonic())


def without_picture() -> RequestState:
    return RequestState(
        request=parse_request({"prompt": b"x"}, CAPABILITIES), listener=NullListener(), arrived=time.monotonic()
    )


@dataclass
class PoolHarness:
    """A decoder pool, and the outcomes of its requests in order."""

    pool: PictureDecoderPool = field(init=False)
    metrics: EngineMetrics = field(default_factory=EngineMetrics)
    outcomes: queue.SimpleQueue[tuple[RequestState, RequestError | None]] = field(default_factory=queue.SimpleQueue)

    def outcome(self) -> tuple[RequestState, RequestError | None]:
        return self.outcomes.get(timeout=PATIENCE_S)

    def error(self) -> RequestError:
        error = self.outcome()[1]
        assert error is not None
        return error

    def serve(self, each: RequestState) -> None:
        """Submit a request and assert that it succeeds."""
        self.pool.submit(each)
        assert self.outcome() == (each, None)
        assert each.key != (0, 0)

    def pids(self) -> list[int]:
        return [pid for worker in self.pool._workers if (pid := worker.decoder.pid) is not None]

    def freeze(self) -> list[psutil.Process]:
        """Suspend every decoder, as if its next picture took forever."""
        processes = [psutil.Process(pid) for pid in self.pids()]
        for each in processes:
            each.suspend()
        return processes


@pytest.fixture
def make_harness() -> Iterator[Callable[..., PoolHarness]]:
    harnesses: list[PoolHarness] = []

    def make(*, count: int = 1, timeout_s: float = PATIENCE_S, max_pixels: int = MAX_PIXELS) -> PoolHarness:
        harness = PoolHarness()
        harnesses.append(harness)
        harness.pool = PictureDecoderPool(
            Handlers(
                preprocess=lambda each, decode: preprocess(each, CAPABILITIES, max_pixels=max_pixels, decode=decode),
                ready=lambda each: harness.outcomes.put((each, None)),
                failed=lambda each, error: harness.outcomes.put((each, error)),
            ),
            harness.metrics,
            count=count,
            memory_bytes=memory_for(max_pixels),
            timeout_s=timeout_s,
        )
        for _ in range(count):
            harness.pool.submit(make_state())
        for _ in range(count):
            assert harness.outcome()[1] is None
        wait_until(lambda: harness.pool.num_running == count)
        return harness

    yield make
    for harness in harnesses:
        pids = harness.pids()
        harness.pool.stop()
        assert not any(map(psutil.pid_exists, pids))


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def assert_ended(processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == []


def test_pictures_are_decoded_without_torch() -> None:
    """So they are on Pythons without it, where these tests run too, and a decoder's process starts fast."""
    code = "import sys; sys.modules['torch'] = None; import diffusion_engine.picture_decoder_pool"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ENGINE)})


# ---- cancelled and late requests free their decoder


def test_cancelling_frees_the_decoder(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness()
    frozen = harness.freeze()
    stuck = make_state()
    harness.pool.submit(stuck)
    stuck.cancel()
    assert harness.error().code == "cancelled"
    assert_ended(frozen)
    harness.serve(make_state())
    assert harness.metrics.value("sdxl_engine_decoders_ended_total", code="cancelled") == 1


def test_deadline_frees_the_decoder(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness()
    frozen = harness.freeze()
    harness.pool.submit(make_state(timeout_s=0.1))
    assert harness.error().code == "deadline_exceeded"
    assert_ended(frozen)
    harness.serve(make_state())


def test_picture_that_takes_too_long_to_decode_is_rejected(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness(timeout_s=2.0)
    frozen = harness.freeze()
    harness.pool.submit(make_state())
    error = harness.error()
    assert (error.code, error.field) == ("image_too_complex", "image")
    assert "2 s" in error.detail
    assert_ended(frozen)
    harness.serve(make_state())


def test_requests_waiting_for_stuck_decoders_can_be_cancelled_or_expire(
    make_harness: Callable[..., PoolHarness],
) -> None:
    harness = make_harness(count=2)
    harness.freeze()
    stuck = [make_state(), make_state()]
    waiting, late = make_state(), make_state(timeout_s=0.1)
    for each in (*stuck, waiting, late):
        harness.pool.submit(each)
    assert harness.outcome()[0] is late
    waiting.cancel()
    assert harness.outcome()[0] is waiting
    for each in stuck:
        each.cancel()
    assert {harness.error().code, harness.error().code} == {"cancelled"}


def test_request_without_a_picture_does_not_wait_for_a_decoder(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness()
    harness.freeze()
    stuck = make_state()
    harness.pool.submit(stuck)
    harness.serve(without_picture())
    stuck.cancel()
    assert harness.error().code == "cancelled"


# ---- decoders that die or cannot start


def test_picture_that_kills_its_decoder_is_rejected(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness()
    frozen = harness.freeze()
    harness.pool.submit(make_state())
    wait_until(lambda: not harness.pool._waiting)
    frozen[0].kill()
    assert harness.error().code == "undecodable_image"
    harness.serve(make_state())
    assert harness.metrics.value("sdxl_engine_decoders_ended_total", code="undecodable_image") == 1


def test_death_of_an_idle_decoder_fails_no_request(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness()
    (pid,) = harness.pids()
    psutil.Process(pid).kill()
    # Its thread may already have started another.
    wait_until(lambda: harness.pool.num_running == 0 or harness.pids() != [pid])
    harness.serve(make_state())


def test_requests_fail_until_a_decoder_can_be_started(
    make_harness: Callable[..., PoolHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness()
    monkeypatch.setattr(picture_decoder, "interpreter", lambda: "/nonexistent/python")
    psutil.Process(harness.pids()[0]).kill()
    wait_until(lambda: harness.pool.num_running == 0)
    harness.pool.submit(make_state())
    error = harness.error()
    assert (error.code, error.retry_after_s is not None) == ("decoder_unavailable", True)
    assert harness.metrics.value("sdxl_engine_decoders") == 0
    harness.serve(without_picture())
    monkeypatch.undo()
    wait_until(lambda: harness.pool.num_running == 1)  # without a new request
    harness.serve(make_state())


def test_picture_that_needs_too_much_memory_is_rejected() -> None:
    decoder = PictureDecoder(memory_bytes=memory_for(1), timeout_s=PATIENCE_S)
    decoder.start(lambda: None)
    try:
        large = as_file(Image.new("RGB", (7000, 7000)), compress_level=1)
        with pytest.raises(RequestError) as rejected:
            decode(decoder, large)
        assert rejected.value.code in ("image_too_large", "truncated_image", "undecodable_image")
        if decoder.is_running:
            assert decode(decoder, as_file(drawing())).size == (64, 64)
    finally:
        decoder.stop()


# ---- the engine stops


def test_stopping_ends_decoders_and_fails_waiting_requests(make_harness: Callable[..., PoolHarness]) -> None:
    harness = make_harness(count=2)
    frozen = harness.freeze()
    for _ in range(5):
        harness.pool.submit(make_state())
    harness.pool.stop()
    assert [harness.error().code for _ in range(5)] == ["shutting_down"] * 5
    assert_ended(frozen)
    harness.pool.submit(without_picture())
    assert harness.outcome()[1] is None


PARENT = f"""
import sys, time
sys.path.insert(0, {str(ENGINE)!r})
from diffusion_engine.picture_decoder import PictureDecoder
decoder = PictureDecoder(memory_bytes=1 << 30, timeout_s=600)
decoder.start(lambda: None)
print(decoder.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("is_frozen", [False, True])
def test_no_decoder_outlives_a_killed_engine(is_frozen: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        decoder = psutil.Process(int(parent.stdout.readline()))
        if is_frozen:
            decoder.suspend()
        os.kill(parent.pid, signal.SIGKILL)
        assert_ended([decoder])
    finally:
        parent.kill()
        parent.communicate()


# ---- same result as in the process itself


def decode(decoder: PictureDecoder, content: bytes) -> Scribble:
    structure = examine(content, max_pixels=MAX_PIXELS)
    return decoder.decode(ScribbleDecoding("auto"), structure.essential(content), structure, check=lambda: None)


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    decoder = PictureDecoder(memory_bytes=memory_for(MAX_PIXELS), timeout_s=PATIENCE_S)
    decoder.start(lambda: None)
    yield decoder
    decoder.stop()


@pytest.mark.parametrize("path", SCRIBBLES, ids=lambda path: path.name)
def test_decoder_process_finds_the_same_strokes(decoder: PictureDecoder, path: Path) -> None:
    content = path.read_bytes()
    there = decode(decoder, content)
    structure = examine(content, max_pixels=MAX_PIXELS)
    here = decode_scribble(structure.essential(content), structure, "auto")
    assert np.array_equal(there.strokes, here.strokes)
    assert there.describe() == here.describe()


def test_decoder_process_fits_pictures_and_masks_alike(decoder: PictureDecoder) -> None:
    content = as_file(drawing((80, 40)).convert("RGBA"))
    structure = examine(content, max_pixels=MAX_PIXELS)
    place = Placement.of(structure.upright_size, (96, 96))
    for decoding in (PictureDecoding.at(place), MaskDecoding.at(place, selects="black", blur=2.0)):
        there = decoder.decode(decoding, content, structure, check=lambda: None)
        here = decoding.decode(content, structure)
        assert (there.mode, there.size, there.tobytes()) == (here.mode, (96, 96), here.tobytes())
    with pytest.raises(ValueError, match="not enough"):  # the response of a decoder that a file has taken over
        decoding.unpack({}, bytes(10))


def test_errors_name_the_field_that_is_decoded(decoder: PictureDecoder) -> None:
    content = as_file(drawing())
    structure = examine(content, max_pixels=MAX_PIXELS)
    place = Placement.of(structure.upright_size, (96, 96))
    cut = content[: len(content) * 3 // 4]
    with pytest.raises(RequestError, match="`mask` is cut off") as rejection:
        decoder.decode(MaskDecoding.at(place, selects="white", blur=0), cut, structure, check=lambda: None)
    assert rejection.value.field == "mask"


def test_decoder_survives_every_odd_file(decoder: PictureDecoder) -> None:
    pid = decoder.pid
    for make in HARMLESS.values():
        decode(decoder, make())
        structure = examine(make(), max_pixels=MAX_PIXELS)
        initial = PictureDecoding.at(Placement.of(structure.upright_size, (96, 64)))
        decoder.decode(initial, structure.essential(make()), structure, check=lambda: None)
    assert decoder.pid == pid
    assert psutil.Process(pid).memory_info().rss < 200 * 1024 * 1024


def test_damaged_palette_is_rejected_and_the_decoder_survives(decoder: PictureDecoder) -> None:
    pid = decoder.pid
    plain = as_file(drawing().convert("P"))
    before_data = plain.index(b"IDAT") - 4
    with_long_transparency = plain[:before_data] + png_chunk(b"tRNS", bytes(300)) + plain[before_data:]
    without_palette = plain[: plain.index(b"PLTE") - 4] + plain[before_data:]
    for content in (with_long_transparency, without_palette):
        with pytest.raises(RequestError, match="damaged"):
            decode(decoder, content)
    assert decode(decoder, as_file(drawing())).size == (64, 64)
    assert decoder.pid == pid


@pytest.mark.parametrize("damage", [0.3, 0.9])
def test_damaged_file_is_rejected_and_the_decoder_survives(decoder: PictureDecoder, damage: float) -> None:
    content = bytearray(as_file(Image.linear_gradient("L"), "PNG"))
    at = content.index(b"IDAT") + 4
    at += int((len(content) - at) * damage)
    content[at : at + 8] = bytes(8)
    with pytest.raises(RequestError, match="damaged"):
        decode(decoder, bytes(content))
    assert decode(decoder, as_file(drawing())).size == (64, 64)
