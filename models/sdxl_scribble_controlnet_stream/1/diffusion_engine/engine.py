# SPDX-License-Identifier: Apache-2.0
"""Continuous batching of denoise steps: requests join and leave between steps, each with its own count, scale and seed.

One thread owns the networks. It chooses who runs, makes one pass for all of them, and settles what came of it. Reading
scribbles and writing picture files happens on other threads.
"""

import logging
import queue
import threading
import time
from functools import partial
from typing import Any

import diffusers
import torch

from diffusion_engine.announcer import Announcer
from diffusion_engine.batcher import Batcher, Policy
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.decoder import Decoder, Pixels, not_finite
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.generation import BatchKey, Generation, Listener, Status
from diffusion_engine.isolation import attempt
from diffusion_engine.metrics import EngineMetrics
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.picture_decoder import memory_for
from diffusion_engine.pictures import MAX_SIDE
from diffusion_engine.readers import Decode, Handlers, Readers
from diffusion_engine.receipt import ENGINE_VERSION, Receipts
from diffusion_engine.reception import receive
from diffusion_engine.request import DiffusionRequest, RequestError
from diffusion_engine.row_limits import RowLimits

logger = logging.getLogger(__name__)


class Engine:
    """Takes requests from any thread. `start` it before, `stop` it after.

    Args:
        max_requests: how many it holds at once, waiting or running; more are refused.
        max_pixels, max_side: larger pictures are refused before they are decoded.
        num_decoders: how many pictures are decoded at a time, each in a process of its own.
        decode_timeout_s: how long decoding one picture may take.
    """

    def __init__(
        self,
        networks: Networks,
        capabilities: Capabilities,
        row_limits: RowLimits,
        *,
        max_requests: int = 64,
        max_pixels: int = 50_000_000,
        max_side: int = MAX_SIDE,
        num_decoders: int = 2,
        decode_timeout_s: float = 10.0,
        policy: Policy = Policy.FIRST_COME,
    ) -> None:
        self.capabilities = capabilities
        self.metrics = EngineMetrics()
        self.row_limits = row_limits
        self.max_requests = max_requests
        self.max_pixels = max_pixels
        self.max_side = max_side
        self._is_guided_by_embedding = networks.is_guided_by_embedding
        self._runs_on = {
            "version": ENGINE_VERSION,
            "device": str(networks.device),
            "dtype": str(networks.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }
        self._receipts = Receipts(capabilities, self._runs_on)
        self.noise_scheduler = NoiseSchedulers(
            networks.pipeline.scheduler.config, capabilities.schedulers, networks.device
        )
        self.encoder = Encoder(networks, self.noise_scheduler)
        self.denoiser = Denoiser(networks)
        self.decoder = Decoder(networks)
        self.batcher = Batcher(max_rows=row_limits.max_rows, drop=self._drop, policy=policy)
        self.announcer = Announcer()
        self._inbox: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._readers = Readers(
            Handlers(read=self._receive, received=self._inbox.put, failed=self._drop),
            self.metrics,
            count=num_decoders,
            memory_bytes=memory_for(max_pixels),
            timeout_s=decode_timeout_s,
        )
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._lock = threading.RLock()
        self._num_requests = 0
        self._is_stopping = False
        self._seconds_per_row = 0.0  # of a pass, lately

    # ---- for callers, from any thread

    def start(self) -> None:
        self.announcer.start()
        self._readers.start()
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs; whoever is still here is told so."""
        with self._lock:
            self._is_stopping = True
        self._readers.stop()
        self._inbox.put(None)
        self._thread.join()
        self.announcer.stop()

    def describe(self) -> dict[str, Any]:
        """What a caller may ask for, and what answers: sizes, defaults, limits, schedulers, versions.

        `unavailable` is present only while no picture can be read, and gives the reason.
        """
        num_decoders = self._readers.num_running
        return {
            **self.capabilities.describe(),
            **({} if num_decoders else {"unavailable": "No process that decodes pictures can be started."}),
            "engine": {
                "max_requests": self.max_requests,
                "max_rows": {
                    _size(BatchKey(*size)): self.row_limits.max_rows(BatchKey(*size))
                    for size in self.capabilities.sizes
                },
                "policy": str(self.batcher.policy),
                "decoders": {"running": num_decoders, "of": self._readers.count},
                **self._runs_on,
            },
        }

    def submit(self, request: DiffusionRequest, listener: Listener, *, preview_every: int = 0) -> Generation:
        """Take a request; its listener is told of everything else. `Generation.cancel` takes it back.

        Raises:
            RequestError: the engine holds as many requests as it may, with an estimate of when to come back.
        """
        with self._lock:
            if self._is_stopping:
                raise RequestError("shutting_down", "this server is stopping; try another, or later", retry_after_s=5)
            if self._num_requests >= self.max_requests:
                raise RequestError(
                    "queue_full",
                    f"{self._num_requests} requests are waiting or running; try again later",
                    retry_after_s=self._time_per_request(),
                )
            generation = Generation(
                request=request,
                listener=listener,
                arrived=time.monotonic(),
                preview_every=preview_every,
                is_guided_by_embedding=self._is_guided_by_embedding,
            )
            self._num_requests += 1
            self.metrics.set("sdxl_engine_requests", self._num_requests)
            self._readers.submit(generation)  # under the lock: `stop` closes the readers
        return generation

    # ---- the engine's thread

    def step(self) -> bool:
        """Choose who runs, make one pass for all of them, settle what came of it. False: there was nothing to do."""
        rows = self._begin(self.batcher.next_rows())
        rows, noise = self._predict(rows)
        rows = self._finite(self._advance(rows, noise))
        self._tell(rows)
        self._settle([generation for generation in rows if generation.remaining_steps == 0])
        return bool(rows) or len(self.batcher) > 0

    def _run(self) -> None:
        while self._take_in():
            while self._step_or_give_up() and self._take_in(wait=False):
                pass
            self.denoiser.forget()
        for generation in list(self.batcher):
            self.batcher.retire(generation)
            self._fail(generation, RequestError("shutting_down", "this server is stopping; try another, or later"))

    def _step_or_give_up(self) -> bool:
        """A bug of ours must not end this thread: those who are here are told, and the next ones are served."""
        done = attempt(self.step)
        if not isinstance(done, RequestError):
            return done
        for generation in list(self.batcher):
            self._evict(generation, done)
        return False

    def _take_in(self, *, wait: bool = True) -> bool:
        """Let those in that arrived. False: it is time to stop."""
        try:
            arrived = self._inbox.get(block=wait)
            while arrived is not None:
                self.batcher.admit(arrived)
                arrived = self._inbox.get(block=False)
        except queue.Empty:
            return True
        self._inbox.put(None)  # for the outer loop
        return False

    def _begin(self, generations: list[Generation]) -> list[Generation]:
        """Encode those that run for the first time; one that cannot be encoded fails alone."""
        if new := [generation for generation in generations if generation.encoded is None]:
            attempt(lambda: self.encoder.read_texts(new))  # whose text it was that failed shows below
        ready = []
        for generation in generations:
            if generation.encoded is None and not self._encode(generation):
                continue
            ready.append(generation)
        return ready

    def _encode(self, generation: Generation) -> bool:
        started = time.monotonic()
        self.metrics.add("sdxl_engine_queue_wait_seconds_total", started - generation.arrived)
        self.metrics.add("sdxl_engine_started_total")
        generation.timings["wait"] = started - generation.arrived
        encoded = attempt(lambda: self.encoder.encode(generation))
        if isinstance(encoded, RequestError):
            self._evict(generation, encoded)
            return False
        generation.encoded = encoded
        generation.mark("encode", started)
        return True

    def _predict(self, generations: list[Generation]) -> tuple[list[Generation], list[torch.Tensor]]:
        """One pass for all. When it fails, each is tried alone, once, and those that fail again are evicted."""
        if not generations:
            return [], []
        started = time.monotonic()
        try:
            noise = self.denoiser.predict(generations)
        except torch.OutOfMemoryError:
            if len(generations) == 1:
                return self._predict_alone(generations)
            return self._predict_fewer(generations)
        except Exception:
            logger.warning("a pass of %d requests failed; each is tried alone", len(generations), exc_info=True)
            return self._predict_alone(generations)
        self._count_step(generations, time.monotonic() - started)
        return generations, noise

    def _predict_alone(self, generations: list[Generation]) -> tuple[list[Generation], list[torch.Tensor]]:
        survivors: list[Generation] = []
        noise: list[torch.Tensor] = []
        for generation in generations:
            predicted = attempt(partial(self.denoiser.predict, [generation]))
            if isinstance(predicted, RequestError):
                self._evict(generation, predicted)
            else:
                survivors.append(generation)
                noise += predicted
        return survivors, noise

    def _predict_fewer(self, generations: list[Generation]) -> tuple[list[Generation], list[torch.Tensor]]:
        """Out of memory: half of them go on now, the others when it is their turn again."""
        torch.cuda.empty_cache()
        self.row_limits.shed(generations[0].key, below=sum(each.num_rows for each in generations))
        return self._predict(generations[: len(generations) // 2])

    def _advance(self, generations: list[Generation], noise: list[torch.Tensor]) -> list[Generation]:
        """From noise to less of it, each by its own scheduler; one that cannot go on fails alone."""
        advanced = []
        for generation, noise_pred in zip(generations, noise, strict=True):
            error = attempt(partial(self.noise_scheduler.advance, generation, noise_pred))
            if error is None:
                advanced.append(generation)
            else:
                self._evict(generation, error)
        return advanced

    def _finite(self, generations: list[Generation]) -> list[Generation]:
        """Those whose numbers are numbers; from the others no picture can come any more.

        The only place where a step waits for a GPU: progress is told when it has been made, and who leaves or joins
        does so with the next pass and not behind several that wait to be run.
        """
        finite = []
        for generation, is_finite in zip(generations, self.decoder.are_finite(generations), strict=True):
            if is_finite:
                finite.append(generation)
            else:
                self._evict(generation, not_finite(f"in step {generation.step_index} of {generation.num_steps}"))
        return finite

    def _tell(self, generations: list[Generation]) -> None:
        """How far each is; those that are done are told when their picture is written."""
        for generation in generations:
            if generation.step_index == 1:
                self.metrics.add("sdxl_engine_first_step_seconds_total", time.monotonic() - generation.arrived)
        running = [generation for generation in generations if generation.remaining_steps > 0]
        shown = [generation for generation in running if generation.wants_preview]
        previews = dict(
            zip(shown, self.decoder.previews([each.encoded.predicted_clean for each in shown]), strict=True)
        )
        for generation in running:
            self.announcer.progress(generation, previews.get(generation))

    def _settle(self, generations: list[Generation]) -> None:
        """Their last step is done: decode them, one in every lane at a time, and let them go."""
        lanes = self.denoiser.lanes
        for start in range(0, len(generations), lanes.count):
            part, started = generations[start : start + lanes.count], time.monotonic()
            for generation in part:
                self.batcher.retire(generation)
            decode = [partial(self.decoder.decode, generation.encoded.latents) for generation in part]
            for generation, pixels in zip(part, lanes.run([partial(attempt, each) for each in decode]), strict=True):
                generation.mark("decode", started)
                self._hand_over(generation, pixels)

    def _hand_over(self, generation: Generation, pixels: Pixels | RequestError) -> None:
        if isinstance(pixels, RequestError):
            self._fail(generation, pixels)
            return
        generation.encoded = None
        self._leave(generation, Status.FINISHED)
        self.announcer.completed(
            generation, pixels, lambda: self._info(generation), lambda: self._receipts.text(generation)
        )

    def _evict(self, generation: Generation, error: RequestError) -> None:
        self.metrics.add("sdxl_engine_evictions_total", code=error.code)
        self.batcher.retire(generation)
        self._fail(generation, error)

    def _drop(self, generation: Generation, error: RequestError) -> None:
        """The batcher let go of a request that was cancelled or is late."""
        if generation.cancelled_at is not None:
            freed_after = time.monotonic() - generation.cancelled_at
            self.metrics.add("sdxl_engine_cancel_to_free_seconds_total", freed_after)
        self._fail(generation, error)

    # ---- from several threads

    def _receive(self, generation: Generation, decode: Decode) -> None:
        receive(generation, self.capabilities, max_pixels=self.max_pixels, max_side=self.max_side, decode=decode)

    def _fail(self, generation: Generation, error: RequestError) -> None:
        generation.encoded = None
        self._leave(generation, Status.CANCELLED if error.code == "cancelled" else Status.FAILED)
        self.announcer.failed(generation, error)

    def _leave(self, generation: Generation, status: Status) -> None:
        self.metrics.add("sdxl_engine_requests_total", how=status.value)
        with self._lock:
            self._num_requests -= 1
            self.metrics.set("sdxl_engine_requests", self._num_requests)
        generation.status = status  # last: who sees it may show the metrics and sleep

    def _count_step(self, generations: list[Generation], duration_s: float) -> None:
        key, num_rows = generations[0].key, sum(each.num_rows for each in generations)
        for generation in generations:
            generation.timings["denoise"] = generation.timings.get("denoise", 0.0) + duration_s
        self._seconds_per_row = 0.9 * self._seconds_per_row + 0.1 * duration_s / num_rows
        size = _size(key)
        self.metrics.add("sdxl_engine_steps_total", size=size)
        self.metrics.add("sdxl_engine_rows_total", num_rows, size=size)
        self.metrics.add("sdxl_engine_step_seconds_total", duration_s, size=size)
        if not key.is_alone:
            self.metrics.set("sdxl_engine_max_rows", self.row_limits.max_rows(key), size=size)

    def _time_per_request(self) -> float:
        """About how long until one of those inside has left."""
        rows = 2 * self.capabilities.defaults.num_inference_steps
        return max(1.0, rows * self._seconds_per_row)

    def _info(self, generation: Generation) -> dict[str, Any]:
        timings = {**generation.timings, "total": time.monotonic() - generation.arrived}
        return {
            **self._receipts.info(generation),
            "scribble": generation.scribble_info,
            "notes": generation.notes,
            "timings_s": {name: round(duration, 4) for name, duration in timings.items()},
        }


def _size(key: BatchKey) -> str:
    return f"{key.width}x{key.height}"
