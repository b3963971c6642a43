# SPDX-License-Identifier: Apache-2.0
"""Preprocesses requests on separate threads, each with a decoder process that can be killed at any time."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from diffusion_engine.decoding import Decode, Decoding, decode_here
from diffusion_engine.errors import RequestError, attempt
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.metrics import EngineMetrics
from diffusion_engine.picture_decoder import DecoderEndedError, PictureDecoder
from diffusion_engine.request_state import RequestState

logger = logging.getLogger(__name__)

# Pause between two attempts to start a decoder.
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 30.0
# How often an idle thread checks that its decoder runs.
IDLE_INTERVAL_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """The callbacks of a request, called from any of the threads."""

    preprocess: Callable[[RequestState, Decode], None]  # may raise
    ready: Callable[[RequestState], None]
    failed: Callable[[RequestState, RequestError], None]


@dataclass(slots=True, eq=False)
class DecoderWorker:
    """One thread and its decoder."""

    decoder: PictureDecoder
    next_start: float = 0.0  # a point of time.monotonic()
    back_off_s: float = FIRST_BACK_OFF_S
    thread: threading.Thread = field(init=False)


class PictureDecoderPool:
    """Preprocesses requests from any thread, in order of arrival. Requests without a picture do not wait.

    Args:
        count: the number of pictures that are decoded at a time.
        memory_bytes: the memory limit for decoding one picture.
        timeout_s: the time limit for decoding one picture.
        initializer: called on each thread at its start.
    """

    def __init__(
        self,
        handlers: Handlers,
        metrics: EngineMetrics,
        *,
        count: int,
        memory_bytes: int,
        timeout_s: float,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self.count = count
        self._handlers = handlers
        self._initializer = initializer
        self._metrics = metrics
        self._waiting: deque[RequestState] = deque()
        self._changed = threading.Condition()
        self._is_started = False
        self._is_stopping = False
        self._workers = [
            DecoderWorker(PictureDecoder(memory_bytes=memory_bytes, timeout_s=timeout_s)) for _ in range(count)
        ]
        for number, worker in enumerate(self._workers):
            worker.thread = threading.Thread(
                target=self._run, args=(worker,), name=f"picture-decoder-{number}", daemon=True
            )

    @property
    def num_running(self) -> int:
        """The number of running decoders, idle or busy."""
        return sum(worker.decoder.is_running for worker in self._workers)

    def start(self) -> None:
        """Start the threads and their decoders. Otherwise the first request with a picture starts them."""
        with self._changed:
            if self._is_started or self._is_stopping:
                return
            self._is_started = True
        for worker in self._workers:
            worker.thread.start()

    def stop(self) -> None:
        """Kill the decoders, even while they decode. All requests in the pool fail."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            if self._is_started:
                worker.thread.join()
        while self._waiting:
            self._handlers.failed(self._waiting.popleft(), stopping())

    def submit(self, state: RequestState) -> None:
        """Preprocess a request. Its handlers may be called before this returns."""
        if state.request.image is None and state.request.init_image is None and not state.request.loras:
            if error := self._preprocess(state, decode_here):  # there is nothing to decode or to load
                self._handlers.failed(state, error)
            return
        self.start()
        with self._changed:
            self._waiting.append(state)
            self._changed.notify()

    # ---- on the threads

    def _run(self, worker: DecoderWorker) -> None:
        if self._initializer:
            self._initializer()
        try:
            while (state := self._next(worker)) is not None:
                self._decode(state, worker.decoder)
        finally:
            worker.decoder.stop()

    def _next(self, worker: DecoderWorker) -> RequestState | None:
        """The request that has waited longest. None: the pool is stopping.

        A thread without a running decoder takes requests only if no decoder runs at all.
        """
        while True:
            if not worker.decoder.is_running and time.monotonic() >= worker.next_start:
                self._start(worker)
            with self._changed:
                if self._is_stopping:
                    return None
                if self._waiting and (worker.decoder.is_running or not self.num_running):
                    return self._waiting.popleft()
                pause_s = IDLE_INTERVAL_S
                if not worker.decoder.is_running:
                    pause_s = max(0.0, worker.next_start - time.monotonic())
                self._changed.wait(pause_s)

    def _start(self, worker: DecoderWorker) -> None:
        try:
            worker.decoder.start(self._check)
        except DecoderEndedError as error:
            logger.error("pictures cannot be decoded: %s; next attempt in %g s", error, worker.back_off_s)
            worker.next_start = time.monotonic() + worker.back_off_s
            worker.back_off_s = min(2 * worker.back_off_s, LONGEST_BACK_OFF_S)
        except RequestError:  # the pool is stopping
            pass
        else:
            worker.back_off_s = FIRST_BACK_OFF_S
        self._metrics.set("sdxl_engine_decoders", self.num_running)

    def _decode(self, state: RequestState, decoder: PictureDecoder) -> None:
        def decode(decoding: Decoding[T], content: bytes, structure: Structure) -> T:
            if not decoder.is_running:
                detail = "The engine cannot start a process that decodes pictures. The server's log has the reason."
                raise RequestError("decoder_unavailable", detail, retry_after_s=FIRST_BACK_OFF_S)
            try:
                return decoder.decode(decoding, content, structure, check=lambda: self._check(state))
            except DecoderEndedError as error:
                logger.warning("a picture could not be decoded: %s", error)
                detail = f"`{decoding.field}` could not be decoded: {error}. Save it again as a plain PNG or JPEG."
                raise RequestError("undecodable_image", detail, field=decoding.field) from None

        was_running = decoder.is_running
        error = self._preprocess(state, decode)
        if error is None:
            return
        if was_running and not decoder.is_running:
            self._metrics.add("sdxl_engine_decoders_ended_total", code=error.code)
        self._handlers.failed(state, error)

    def _preprocess(self, state: RequestState, decode: Decode) -> RequestError | None:
        """Preprocess a request, which is ready then. Returns its error, if any."""
        started = time.monotonic()
        error = attempt(lambda: self._handlers.preprocess(state, decode))
        if error is None:
            state.mark("read", started)
            self._handlers.ready(state)
        return error

    def _check(self, state: RequestState | None = None) -> None:
        """Called while a decoder works or starts. Raises `RequestError` if the pool stops or the request has ended."""
        now = time.monotonic()
        with self._changed:
            if self._is_stopping:
                raise stopping()
            interrupted = [(each, error) for each in self._waiting if (error := each.interruption(now))]
            for each, _ in interrupted:
                self._waiting.remove(each)
        for each, error in interrupted:
            self._handlers.failed(each, error)
        if state is not None and (error := state.interruption(now)):
            raise error


def stopping() -> RequestError:
    return RequestError("shutting_down", "The engine is stopping. Retry later, or on another server.")
