# SPDX-License-Identifier: Apache-2.0
"""Tells listeners, from one thread of its own: writing picture files and sending must not hold up the next step."""

import base64
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from diffusion_engine.decoder import Pixels
from diffusion_engine.generation import GeneratedPicture, Generation
from diffusion_engine.isolation import attempt
from diffusion_engine.pictures import encode_picture, hash_of_pixels
from diffusion_engine.request import RequestError

PREVIEW_QUALITY = 80


@dataclass(slots=True)
class Progress:
    """The newest that is known of a request, until it is told."""

    step: int
    preview: Pixels | None


class Announcer:
    """Keeps the order of each request's events. Progress that could not be told in time gives way to newer progress."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._progress: dict[Generation, Progress] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell what there is to tell, and end."""
        self._tasks.put(None)
        self._thread.join()

    def progress(self, generation: Generation, preview: Pixels | None) -> None:
        """A step was done; `preview` (h, w, 3) where one is due."""
        with self._lock:
            untold = self._progress.get(generation)
            if untold is not None:
                untold.step = generation.step_index
                untold.preview = untold.preview if preview is None else preview
                return
            self._progress[generation] = Progress(generation.step_index, preview)
        self._tasks.put(lambda: self._tell_progress(generation))

    def completed(
        self,
        generation: Generation,
        pixels: Pixels,
        make_info: Callable[[], dict[str, object]],
        make_receipt: Callable[[], str],
    ) -> None:
        """The picture (H, W, 3) is there; it is written as a file, with its receipt, and told."""
        self._tasks.put(lambda: self._tell_completed(generation, pixels, make_info, make_receipt))

    def failed(self, generation: Generation, error: RequestError) -> None:
        self._tasks.put(lambda: generation.listener.failed(error))

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            attempt(task)  # a listener that raises is one that is not told; the others are

    def _tell_progress(self, generation: Generation) -> None:
        with self._lock:
            progress = self._progress.pop(generation)
        preview = None
        if progress.preview is not None:
            image = Image.fromarray(progress.preview)
            preview = encode_picture(image, output_format="webp", output_quality=PREVIEW_QUALITY)
        generation.listener.progress(progress.step, generation.num_steps, preview)

    def _tell_completed(
        self,
        generation: Generation,
        pixels: Pixels,
        make_info: Callable[[], dict[str, object]],
        make_receipt: Callable[[], str],
    ) -> None:
        request, started = generation.request, time.monotonic()
        generation.pixels_sha256 = hash_of_pixels(Image.fromarray(pixels))
        content = attempt(
            lambda: encode_picture(
                Image.fromarray(pixels),
                output_format=request.output_format,
                output_quality=request.output_quality,
                receipt=make_receipt(),
            )
        )
        if isinstance(content, RequestError):
            generation.listener.failed(content)
            return
        generation.mark("write", started)
        generation.listener.completed(
            GeneratedPicture(
                content=base64.b64encode(content) if generation.answer_as_text else content,
                seed=request.seed,
                info=make_info(),
            )
        )
