# SPDX-License-Identifier: Apache-2.0
"""Types that the API families share with each other and with background jobs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket
from fastapi_triton.admission.limiter import Admissions
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.pipeline import RequestPipeline
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.triton.model_registry import ModelRegistry

# Kinds of events of a stream model, and the names of the events that clients get.
PROGRESS, COMPLETED = "progress", "completed"
_POSITION_FIELDS = tuple(each.name for each in fields(QueuePosition))
_PROGRESS_FIELDS = ("step", "num_steps", "preview", *_POSITION_FIELDS)


class Services:
    """The objects that all endpoints of an app share."""

    def __init__(
        self, triton: TritonClient, registry: ModelRegistry, admission: Admissions, settings: Settings
    ) -> None:
        self.triton = triton
        self.registry = registry
        self.admission = admission
        self.settings = settings
        self.pipeline = RequestPipeline(settings)
        self.image_limits = ImageLimits(
            settings.max_image_pixels,
            settings.max_json_elements,
            settings.max_image_side,
            settings.max_text_bytes,
        )


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One response of a stream model: its kind, and its other outputs as plain values."""

    kind: str
    fields: Mapping[str, Any]

    @property
    def progress(self) -> dict[str, Any]:
        """The fields that show the progress or the position in the model's queue, without those that are empty."""
        found = {name: self.fields[name] for name in _PROGRESS_FIELDS if self.fields.get(name) not in (None, "")}
        return {name: round(each, 1) if isinstance(each, float) else each for name, each in found.items()}

    @property
    def position(self) -> QueuePosition | None:
        """The position in the model's queue, if this event has it."""
        found = {name: each for name, each in self.progress.items() if name in _POSITION_FIELDS}
        return QueuePosition(**found) if "position" in found else None


class ProgressListener(Protocol):
    """Follows one request. A background job is one. The `ticket` shows its position in the queue for a slot."""

    ticket: QueueTicket

    async def started(self) -> None:
        """Called when the request has its slot, before the model runs."""
        ...

    def progressed(self, event: StreamEvent) -> None:
        """Called with each event of the stream model before `completed`."""
        ...


class JobSubmitter(Protocol):
    """Turns requests to one endpoint into background jobs where the client asks for one."""

    def wants(self, headers: Iterable[tuple[bytes, bytes]]) -> bool: ...

    async def submit(self, request: Request) -> Response: ...
