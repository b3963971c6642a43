# SPDX-License-Identifier: Apache-2.0
"""Makes previews, encodes pictures and calls listeners on a separate thread, so that none delays the next step.

Between two passes, the engine's thread works in Python, where only one thread can run. So on a CPU, this thread pauses
until the next pass runs.
"""

import base64
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from diffusion_engine.cpu_parallel import use_cores
from diffusion_engine.errors import RequestError, attempt
from diffusion_engine.fitted_picture import resized
from diffusion_engine.pictures import encode_picture, hash_of_pixels
from diffusion_engine.request_state import GeneratedPicture, QueuePosition, RequestState
from diffusion_engine.vae_decoder import MakePreview, Pixels

PREVIEW_QUALITY = 80
# The longest pause. Usually there is a millisecond between two passes.
MAX_PAUSE_S = 0.005


@dataclass(slots=True)
class Progress:
    """The newest progress of a request that its listener has not received yet."""

    step: int
    preview: MakePreview | None


class OutputProcessor:
    """Keeps the order of each request's events. Newer progress replaces progress that was not sent yet."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._progress: dict[RequestState, Progress] = {}
        self._lock = threading.Lock()
        self._may_work = threading.Event()
        self._may_work.set()
        self._thread = threading.Thread(target=self._run, name="output-processor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send the remaining events, and end the thread."""
        self._tasks.put(None)
        self._thread.join()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let it work meanwhile. Then it pauses until the next time, or for `MAX_PAUSE_S`."""
        self._may_work.set()
        try:
            yield
        finally:
            self._may_work.clear()

    def flush(self, timeout_s: float = 2.0) -> None:
        """Wait until the events so far are sent, but not longer than this."""
        sent = threading.Event()
        self._tasks.put(sent.set)
        sent.wait(timeout_s)

    def moved(self, state: RequestState, position: QueuePosition) -> None:
        """Send the changed position of a waiting request."""
        self._tasks.put(lambda: state.listener.moved(position))

    def progress(self, state: RequestState, preview: MakePreview | None) -> None:
        """Send the progress of a request after a step, with a preview if there is one."""
        with self._lock:
            waiting = self._progress.get(state)
            if waiting is not None:
                waiting.step = state.step_index
                waiting.preview = waiting.preview if preview is None else preview
                return
            self._progress[state] = Progress(state.step_index, preview)
        self._tasks.put(lambda: self._send_progress(state))

    def completed(
        self,
        state: RequestState,
        pixels: Pixels,
        make_info: Callable[[], dict[str, object]],
        make_receipt: Callable[[], str],
    ) -> None:
        """Encode the picture (H, W, 3) as a file with its receipt, and send it."""
        self._tasks.put(lambda: self._send_completed(state, pixels, make_info, make_receipt))

    def failed(self, state: RequestState, error: RequestError) -> None:
        self._tasks.put(lambda: state.listener.failed(error))

    def _run(self) -> None:
        use_cores(1)
        while (task := self._tasks.get()) is not None:
            if not self._may_work.wait(MAX_PAUSE_S):
                self._may_work.set()
            attempt(task)  # a listener that raises misses its event; other listeners do not

    def _send_progress(self, state: RequestState) -> None:
        with self._lock:
            progress = self._progress.pop(state)
        preview = None
        if progress.preview is not None:
            image = Image.fromarray(progress.preview())
            preview = encode_picture(image, output_format="webp", output_quality=PREVIEW_QUALITY)
        state.listener.progress(progress.step, state.num_steps, preview)

    def _send_completed(
        self,
        state: RequestState,
        pixels: Pixels,
        make_info: Callable[[], dict[str, object]],
        make_receipt: Callable[[], str],
    ) -> None:
        request, started = state.request, time.monotonic()
        picture = resized(Image.fromarray(pixels), state.sent_size)
        if state.mask is not None:  # a VAE changes every pixel, so the kept ones are put back
            picture = Image.composite(picture, state.init_image, state.mask)
        state.pixels_sha256 = hash_of_pixels(picture)
        content = attempt(
            lambda: encode_picture(
                picture,
                output_format=request.output_format,
                output_quality=request.output_quality,
                receipt=make_receipt(),
            )
        )
        if isinstance(content, RequestError):
            state.listener.failed(content)
            return
        state.mark("write", started)
        state.listener.completed(
            GeneratedPicture(
                content=base64.b64encode(content) if state.is_base64 else content,
                seed=request.seed,
                info=make_info(),
            )
        )
