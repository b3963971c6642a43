# SPDX-License-Identifier: Apache-2.0
"""The state of one request while the engine holds it: status, step, listener, tensors, timings. Imports no torch."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from diffusion_engine.errors import RequestError
from diffusion_engine.fitted_picture import resized
from diffusion_engine.placement import Size
from diffusion_engine.request import DiffusionRequest


class Status(StrEnum):
    """The status of a request. The last three are final, and each request ends in exactly one of them."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class BatchKey(NamedTuple):
    """Requests with equal keys may share a pass. Steps, seed, scales and scheduler are not part of it."""

    width: int
    height: int
    is_alone: bool = False  # the requests are reproducible: they share no pass, not even with each other


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A request's position among those of its size that wait; 1 is next. No times are known before the first step.

    `estimated_wait_s` is the time until its first step, `estimated_total_s` until its picture.
    """

    position: int
    estimated_wait_s: float | None = None
    estimated_total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedPicture:
    """The result of a request: the picture file, the seed that reproduces it, and how it was made."""

    content: bytes
    seed: int
    info: dict[str, Any]


class Listener(Protocol):
    """Receives the events of one request: `moved` and `progress` any number of times, then `completed` or `failed`.

    Called in order from the output processor's thread. Must not raise.
    """

    def moved(self, position: QueuePosition) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None: ...

    def completed(self, picture: GeneratedPicture) -> None: ...

    def failed(self, error: RequestError) -> None: ...


class NullListener:
    """Ignores all events. For passes that are only measured."""

    def moved(self, position: QueuePosition) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None: ...

    def completed(self, picture: GeneratedPicture) -> None: ...

    def failed(self, error: RequestError) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedLoRA:
    """An adapter of a request, as the receipt records it."""

    name: str
    scale: float
    sha256: str  # of the file
    changes_texts: bool  # it changes a text encoder
    num_bytes: int

    def recorded(self) -> dict[str, Any]:
        return {"name": self.name, "scale": self.scale, "sha256": self.sha256}


@dataclass(slots=True, eq=False, kw_only=True)
class RequestState:
    """The state of a `DiffusionRequest`. One thread at a time writes to it; any thread may call `cancel`."""

    request: DiffusionRequest
    listener: Listener
    arrived: float  # a point of time.monotonic()
    preview_every: int = 0
    is_guided_by_embedding: bool = False  # the UNet takes the guidance scale as an input

    # Set by `preprocessing.preprocess`.
    key: BatchKey = field(default=BatchKey(0, 0))
    control_image: Any = None  # a PIL image, white strokes on black; None: no scribble
    scribble_info: Mapping[str, Any] | None = None
    seen_scribble: Any = None  # `receipt.SeenScribble`; None: no scribble
    # Both have the size of the picture in the response.
    init_image: Any = None  # the PIL image to start from (RGB); None: the request starts from noise
    mask: Any = None  # a PIL image (L), white where `init_image` is painted anew; None: everywhere
    picture_hashes: dict[str, str] = field(default_factory=dict)  # of both, for the receipt
    is_base64: bool = True  # the picture is returned as base64 text, because the scribble was
    is_tiled: bool = False  # the picture was decoded in tiles, which changes some pixels
    pixels_sha256: str = ""  # of the finished picture, before it is encoded as a file

    loras: tuple[UsedLoRA, ...] = ()  # with their hashes

    status: Status = Status.WAITING
    queue_position: int | None = None  # as last reported
    step_index: int = 0
    reported_steps: int = 0  # `step_index` at its last progress event
    num_cached_steps: int = 0  # of `step_index`, those without a pass
    scheduled_steps: int | None = None  # the number of timesteps, known when it has been encoded
    encoded: Any = None  # its tensors: `encoder.Encoded`
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cancelled_at: float | None = None

    @property
    def num_steps(self) -> int:
        """The passes that it needs: a scheduler may take more than `num_inference_steps`, and `strength` fewer."""
        if self.scheduled_steps is not None:
            return self.scheduled_steps
        request = self.request
        return int(request.num_inference_steps * (1.0 if request.strength is None else request.strength))

    @property
    def made_size(self) -> Size:
        """The size in which the checkpoint makes the picture."""
        return (self.key.width, self.key.height)

    @property
    def sent_size(self) -> Size:
        """The size of the picture in the response. A larger one is upscaled."""
        return (self.request.width or self.key.width, self.request.height or self.key.height)

    def at_made_size(self, picture: Any) -> Any:
        """`init_image` or `mask`, at the size in which the checkpoint makes the picture."""
        return resized(picture, self.made_size)

    @property
    def remaining_steps(self) -> int:
        return self.num_steps - self.step_index

    @property
    def is_guided(self) -> bool:
        """Whether it has an unconditional row in addition to the conditional one."""
        return self.request.guidance_scale > 1 and not self.is_guided_by_embedding

    @property
    def num_rows(self) -> int:
        return 2 if self.is_guided else 1

    @property
    def has_control(self) -> bool:
        """Whether the scribble counts in the next step."""
        return self.is_controlled(self.step_index)

    def is_controlled(self, step: int) -> bool:
        """Whether the scribble counts in a step: the control window, as in diffusers, and a scale above 0."""
        request, n = self.request, self.num_steps
        is_open = step / n >= request.control_guidance_start and (step + 1) / n <= request.control_guidance_end
        return is_open and request.conditioning_scale > 0 and self.control_image is not None

    @property
    def wants_preview(self) -> bool:
        """Whether a preview has become due since the last report. The last step has none: the picture follows."""
        if self.preview_every <= 0 or self.remaining_steps == 0:
            return False
        return self.step_index // self.preview_every > self.reported_steps // self.preview_every

    def cancel(self) -> None:
        """Cancel the request, from any thread. No step begins after this."""
        if self.cancelled_at is None:
            self.cancelled_at = time.monotonic()

    def interruption(self, now: float) -> RequestError | None:
        """The error of a request that was cancelled or is past its deadline; None for others."""
        if self.cancelled_at is not None:
            return RequestError("cancelled", "The request was cancelled before the picture was finished.")
        timeout_s = self.request.timeout_s
        if timeout_s is not None and now > self.arrived + timeout_s:
            return RequestError(
                "deadline_exceeded",
                f"`timeout_s` is {timeout_s:g}, and the picture took longer. Allow more time, or send fewer steps.",
                field="timeout_s",
            )
        return None

    def mark(self, name: str, since: float) -> None:
        """Add the time since `since` to one of its timings, in seconds."""
        self.timings[name] = self.timings.get(name, 0.0) + time.monotonic() - since
