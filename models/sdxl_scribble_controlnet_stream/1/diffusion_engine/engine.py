# SPDX-License-Identifier: Apache-2.0
"""Continuous batching of denoising steps: requests join and leave between steps, each with its own parameters.

One thread owns the networks. It schedules requests, runs one pass for all of them, and decodes the finished ones. Other
threads read scribbles and write picture files.
"""

import logging
import math
import queue
import threading
import time
from functools import partial
from typing import Any

import diffusers
import torch

from diffusion_engine import unused_inputs
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.cpu_parallel import use_cores
from diffusion_engine.decoding import Decode
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.errors import RequestError, attempt
from diffusion_engine.gpu_health import end_process_if_broken
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.metrics import EngineMetrics
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.non_finite import non_finite_error
from diffusion_engine.output_processor import OutputProcessor
from diffusion_engine.pass_runner import PassRunner
from diffusion_engine.picture_decoder import memory_for
from diffusion_engine.picture_decoder_pool import Handlers, PictureDecoderPool
from diffusion_engine.pictures import MAX_SIDE
from diffusion_engine.preprocessing import preprocess
from diffusion_engine.queue_reporter import QueueReporter
from diffusion_engine.receipt import ENGINE_VERSION, ReceiptWriter
from diffusion_engine.request import DiffusionRequest
from diffusion_engine.request_state import BatchKey, Listener, RequestState, Status
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.step_scheduler import Policy, StepScheduler
from diffusion_engine.vae_decoder import Pixels, VAEDecoder

logger = logging.getLogger(__name__)


class Engine:
    """Makes the pictures of requests from any thread, between `start` and `stop`.

    Args:
        max_requests: the most requests that it holds, waiting or running. It rejects others.
        max_pixels, max_side: larger pictures are rejected before they are decoded.
        num_decoders: how many pictures are decoded at a time, each in a separate process.
        decode_timeout_s: the time limit for decoding one picture.
        library: the adapters that requests may name. `networks` must have their layout.
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
        library: LoRALibrary | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.metrics = EngineMetrics()
        self.row_limits = row_limits
        self.max_requests = max_requests
        self.max_pixels = max_pixels
        self.max_side = max_side
        self._is_guided_by_embedding = networks.is_guided_by_embedding
        self._device = networks.device
        self._networks = networks
        self._runs_on = {
            "version": ENGINE_VERSION,
            "device": str(self._device),
            "dtype": str(networks.dtype).removeprefix("torch."),
            "vae_dtype": str(networks.vae.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }
        self._receipts = ReceiptWriter(capabilities, self._runs_on)
        self.noise_scheduler = NoiseSchedulers(networks.pipeline.scheduler.config)
        self._library = library
        self.encoder = Encoder(
            networks,
            self.noise_scheduler,
            max_prompt_chunks=capabilities.limits.max_prompt_chunks,
            library=library,
        )
        self.output_processor = OutputProcessor()
        self.denoiser = Denoiser(networks, meanwhile=self.output_processor.working)
        self.vae_decoder = VAEDecoder(networks)
        self.pass_runner = PassRunner(
            self.denoiser, self.noise_scheduler, row_limits, evict=self._evict, abandon=self._count_abandoned
        )
        self.step_scheduler = StepScheduler(
            max_rows=row_limits.max_rows,
            max_lora_bytes=math.inf if library is None else library.max_bytes,
            drop=self._drop,
            policy=policy,
        )
        self.queue_reporter = QueueReporter(self.step_scheduler, self.output_processor.moved)
        self._inbox: queue.SimpleQueue[RequestState | None] = queue.SimpleQueue()
        self._picture_decoders = PictureDecoderPool(
            Handlers(preprocess=self._preprocess, ready=self._inbox.put, failed=self._drop),
            self.metrics,
            count=num_decoders,
            memory_bytes=memory_for(max_pixels),
            timeout_s=decode_timeout_s,
            initializer=partial(use_cores, 1),
        )
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._lock = threading.RLock()
        self._num_requests = 0
        self._is_stopping = False

    # ---- from any thread

    def start(self) -> None:
        self.output_processor.start()
        self._picture_decoders.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current step. Unfinished requests fail with `shutting_down`."""
        with self._lock:
            self._is_stopping = True
        self._picture_decoders.stop()
        self._inbox.put(None)
        self._thread.join()
        self.output_processor.stop()

    def describe(self) -> dict[str, Any]:
        """The capabilities and this engine's settings: sizes, defaults, limits, schedulers, versions.

        `unavailable`, the reason, is present only while no scribble can be decoded.
        """
        num_decoders = self._picture_decoders.num_running
        return {
            **self.capabilities.describe(),
            **({} if num_decoders else {"unavailable": "The engine cannot start a process that decodes pictures."}),
            "engine": {
                "max_requests": self.max_requests,
                "max_rows": {
                    _size(BatchKey(*size)): self.row_limits.max_rows(BatchKey(*size))
                    for size in self.capabilities.sizes
                },
                "policy": str(self.step_scheduler.policy),
                **self._networks.memory.describe(),
                "decoders": {"running": num_decoders, "of": self._picture_decoders.count},
                **self._runs_on,
            },
        }

    def submit(self, request: DiffusionRequest, listener: Listener, *, preview_every: int = 0) -> RequestState:
        """Accept a request. Its listener receives the events; `RequestState.cancel` cancels it.

        Raises:
            RequestError: the engine is stopping or full; with an estimate of when to retry.
        """
        with self._lock:
            if self._is_stopping:
                raise RequestError(
                    "shutting_down", "The engine is stopping. Retry later, or on another server.", retry_after_s=5
                )
            if self._num_requests >= self.max_requests:
                raise RequestError(
                    "queue_full",
                    f"{self._num_requests} requests are waiting or running, which is the engine's limit. Retry later.",
                    retry_after_s=self._time_per_request(),
                )
            state = RequestState(
                request=request,
                listener=listener,
                arrived=time.monotonic(),
                preview_every=preview_every,
                is_guided_by_embedding=self._is_guided_by_embedding,
                key=self._expected_key(request),
            )
            state.notes += unused_inputs.notes(request, self.capabilities.defaults, is_guided=state.is_guided)
            self.queue_reporter.arrived(state)
            self._num_requests += 1
            self.metrics.set("sdxl_engine_requests", self._num_requests)
            self._picture_decoders.submit(state)  # under the lock: `stop` closes the decoders
        return state

    # ---- the engine's thread

    def step(self) -> bool:
        """Schedule requests, run one pass for all of them, and decode the finished ones. Returns False if idle."""
        rows = self._encode_new(self.step_scheduler.schedule())
        started = time.monotonic()
        predicted = self.pass_runner.run(rows)
        rows = self._finite(predicted)
        self._count_step(predicted, started)  # here, because the pass has ended only when `_finite` has waited for it
        self._report_progress(rows)
        self._decode_finished([state for state in rows if state.remaining_steps == 0])
        return bool(rows) or len(self.step_scheduler) > 0

    def _run(self) -> None:
        use_cores()
        while self._add_arrivals():
            while self._step_or_fail_all() and self._add_arrivals(wait=False):
                self.queue_reporter.report()
            self.queue_reporter.step_times.pause()
            self.denoiser.clear_cache()
        for state in list(self.step_scheduler):
            self.step_scheduler.remove_request(state)
            self._fail(
                state, RequestError("shutting_down", "The engine is stopping. Retry later, or on another server.")
            )

    def _step_or_fail_all(self) -> bool:
        """Run a step. If it raises, all present requests fail, but this thread goes on to serve later ones."""
        done = attempt(self.step)
        if not isinstance(done, RequestError):
            return done
        for state in list(self.step_scheduler):
            self._evict(state, done)
        return False

    def _add_arrivals(self, *, wait: bool = True) -> bool:
        """Add the requests that have arrived to the scheduler. Returns False if the engine is stopping."""
        try:
            arrived = self._inbox.get(block=wait)
            while arrived is not None:
                self.step_scheduler.add_request(arrived)
                self.queue_reporter.left(arrived)
                arrived = self._inbox.get(block=False)
        except queue.Empty:
            return True
        self._inbox.put(None)  # again, for the outer loop
        return False

    def _encode_new(self, states: list[RequestState]) -> list[RequestState]:
        """Encode the requests that run for the first time. If one cannot be encoded, only that one fails."""
        new = [state for state in states if state.encoded is None]
        # If this fails, `_encode` finds the request at fault.
        attempt(lambda: self.encoder.read_texts(new))
        ready = []
        for state in states:
            if state.encoded is None and not self._encode(state):
                continue
            ready.append(state)
        return ready

    def _encode(self, state: RequestState) -> bool:
        started = time.monotonic()
        self.metrics.add("sdxl_engine_queue_wait_seconds_total", started - state.arrived)
        self.metrics.add("sdxl_engine_started_total")
        state.timings["wait"] = started - state.arrived
        encoded = attempt(lambda: self.encoder.encode(state))
        if isinstance(encoded, RequestError):
            self._evict(state, encoded)
            return False
        state.encoded = encoded
        state.mark("encode", started)
        return True

    def _finite(self, states: list[RequestState]) -> list[RequestState]:
        """The requests whose latents are finite; the others are evicted.

        This is the only place where a step waits for the GPU. So the step is finished when its progress is reported,
        and a request joins or leaves at the next pass, without waiting for passes that are queued on the GPU.
        """
        finite = []
        for state, is_finite in zip(states, self.vae_decoder.are_finite(states), strict=True):
            if is_finite:
                finite.append(state)
            else:
                self._evict(state, non_finite_error(self._networks, state))
        return finite

    def _report_progress(self, states: list[RequestState]) -> None:
        """Report each request's step, with a preview if one is due. Finished requests get their picture instead."""
        for state in states:
            if state.step_index == 1:
                self._count_first_pass(state)
        running = [state for state in states if state.remaining_steps > 0]
        shown = [state for state in running if state.wants_preview]
        previews = attempt(lambda: self.vae_decoder.previews([each.encoded.predicted_clean for each in shown]))
        by_state = {} if isinstance(previews, RequestError) else dict(zip(shown, previews, strict=True))
        for state in running:
            self.output_processor.progress(state, by_state.get(state))
            state.reported_steps = state.step_index

    def _decode_finished(self, states: list[RequestState]) -> None:
        """Decode the pictures of finished requests, and release the requests. On a CPU, two at a time."""
        parallel = self.denoiser.cpu_parallel
        for start in range(0, len(states), parallel.size):
            part, started = states[start : start + parallel.size], time.monotonic()
            for state in part:
                self.step_scheduler.remove_request(state)
            decode = [partial(self.vae_decoder.picture, state) for state in part]
            for state, pixels in zip(part, parallel.run([partial(attempt, each) for each in decode]), strict=True):
                state.mark("decode", started)
                self._complete(state, pixels)

    def _complete(self, state: RequestState, pixels: Pixels | RequestError) -> None:
        if isinstance(pixels, RequestError):
            self._fail(state, pixels)
            return
        state.encoded = None
        self._release(state, Status.FINISHED)
        self.output_processor.completed(state, pixels, lambda: self._info(state), lambda: self._receipts.text(state))

    def _evict(self, state: RequestState, error: RequestError) -> None:
        self.metrics.add("sdxl_engine_evictions_total", code=error.code)
        self.step_scheduler.remove_request(state)
        self._fail(state, error)

    def _drop(self, state: RequestState, error: RequestError) -> None:
        """Fail a request that was cancelled or has passed its deadline."""
        if state.cancelled_at is not None:
            freed_after = time.monotonic() - state.cancelled_at
            self.metrics.add("sdxl_engine_cancel_to_free_seconds_total", freed_after)
        self._fail(state, error)

    # ---- from several threads

    def _preprocess(self, state: RequestState, decode: Decode) -> None:
        preprocess(state, self.capabilities, max_pixels=self.max_pixels, max_side=self.max_side, decode=decode)
        if self._library is not None:
            state.loras = self._library.prepare(state.request.loras)

    def _fail(self, state: RequestState, error: RequestError) -> None:
        state.encoded = None
        self._release(state, Status.CANCELLED if error.code == "cancelled" else Status.FAILED)
        self.output_processor.failed(state, error)
        if error.code == "generation_failed":
            end_process_if_broken(self._device, before=self.output_processor.flush)

    def _release(self, state: RequestState, status: Status) -> None:
        self.metrics.add("sdxl_engine_requests_total", how=status.value)
        self.queue_reporter.left(state)
        self.metrics.add("sdxl_engine_cached_steps_total", state.num_cached_steps)
        with self._lock:
            self._num_requests -= 1
            self.metrics.set("sdxl_engine_requests", self._num_requests)
        state.status = status  # last, because the watcher then publishes the metrics and sleeps

    def _count_step(self, states: list[RequestState], started: float) -> None:
        if not states:
            return
        now = time.monotonic()
        duration_s, key, num_rows = now - started, states[0].key, sum(each.num_rows for each in states)
        for state in states:
            state.timings["denoise"] = state.timings.get("denoise", 0.0) + duration_s
        self.queue_reporter.step_times.add(key, num_rows, duration_s=duration_s, now=now)
        size = _size(key)
        self.metrics.add("sdxl_engine_steps_total", size=size)
        self.metrics.add("sdxl_engine_rows_total", num_rows, size=size)
        self.metrics.add("sdxl_engine_step_seconds_total", duration_s, size=size)
        if not key.is_alone:
            self.metrics.set("sdxl_engine_max_rows", self.row_limits.max_rows(key), size=size)

    def _count_abandoned(self, states: list[RequestState]) -> None:
        self.metrics.add("sdxl_engine_abandoned_passes_total", size=_size(states[0].key))
        for state in states:
            if state.step_index == 0:
                self._count_first_pass(state)

    def _count_first_pass(self, state: RequestState) -> None:
        """Call this when a request's first pass has ended."""
        self.metrics.add("sdxl_engine_first_step_seconds_total", time.monotonic() - state.arrived)

    def _time_per_request(self) -> float:
        """An estimate of the time until a request ends, in seconds."""
        rows = 2 * self.capabilities.defaults.num_inference_steps
        return max(1.0, rows * self.queue_reporter.step_times.longest)

    def _expected_key(self, request: DiffusionRequest) -> BatchKey:
        """The key before the size is known, which may depend on the scribble."""
        default = (self.capabilities.defaults.width, self.capabilities.defaults.height)
        size = (request.width or default[0], request.height or default[1])
        return BatchKey(*(size if size in self.capabilities.sizes else default), request.reproducible)

    def _info(self, state: RequestState) -> dict[str, Any]:
        timings = {**state.timings, "total": time.monotonic() - state.arrived}
        return {
            **self._receipts.info(state),
            "scribble": state.scribble_info,
            "notes": state.notes,
            "timings_s": {name: round(duration, 4) for name, duration in timings.items()},
        }


def _size(key: BatchKey) -> str:
    return f"{key.width}x{key.height}"
