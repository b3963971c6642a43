# SPDX-License-Identifier: Apache-2.0
"""Gauges of the app's state: slots, queues, Triton, its models and background tasks."""

from collections.abc import Callable, Sequence

from fastapi_triton.admission.limiter import Admission, Admissions
from fastapi_triton.core.background import running_tasks
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.generated.models import GeneratedModels
from fastapi_triton.observability.gauges import Gauges, Reading
from fastapi_triton.pictures.openai.picture_store import PictureStore
from fastapi_triton.triton.client import TritonClient


def add_to(
    gauges: Gauges,
    *,
    admission: Admissions,
    triton: TritonClient,
    endpoints: Sequence[InferEndpoint],
    generated: GeneratedModels | None,
    body_buffers: BodyBuffers,
    pictures: PictureStore,
) -> None:
    """Add the gauges. Each is read at every scrape; `endpoints` may still grow."""

    def models() -> Reading:
        entries = generated.entries if generated else []
        found = {entry.name: float(bool(entry.versions) and not entry.is_dead) for entry in entries}
        for endpoint in endpoints:
            found.update(dict.fromkeys(endpoint.declaration.models, float(endpoint.declaration.is_ready)))
        return found

    def of_models(read: Callable[[Admission], float | None]) -> Callable[[], Reading]:
        def by_model() -> Reading:
            found = {each.model: read(each) for each in admission.all}
            return {model: value for model, value in found.items() if value is not None}

        return by_model

    # The admission without a name is shared by unknown model names, so its limits belong to no model.
    max_in_flight = of_models(lambda each: each.max_in_flight if each.model else None)
    max_waiting = of_models(lambda each: each.max_waiting if each.model else None)
    service = of_models(lambda each: each.times.service_s)
    gauges.add("in_flight", "Slots in use", of_models(lambda each: each.in_flight), label="model")
    gauges.add("max_in_flight", "Slots of the model", max_in_flight, label="model")
    gauges.add("waiting", "Requests in the queue", of_models(lambda each: each.waiting), label="model")
    gauges.add("max_waiting", "Capacity of the queue", max_waiting, label="model")
    gauges.add(
        "service_seconds",
        "Moving average of Triton's time for a request",
        service,
        label="model",
        is_shared=True,
    )
    gauges.add("buffered_body_bytes", "Bytes of large request bodies in memory", lambda: {"": body_buffers.num_bytes})
    gauges.add(
        "max_buffered_body_bytes",
        "Limit of these bytes, `max_buffered_body_bytes`",
        lambda: {"": body_buffers.max_bytes},
    )
    gauges.add(
        "stored_picture_bytes",
        "Bytes of pictures with URLs",
        lambda: {"": pictures.num_bytes},
        is_shared=True,
    )
    gauges.add(
        "triton_up",
        "1 if Triton responded to the last check, else 0",
        lambda: {"": float(triton.is_up)},
        is_shared=True,
    )
    # The sum over all workers, unlike `triton_up`, so that one worker without a connection is visible.
    gauges.add(
        "open_breakers",
        "Open circuit breakers, which reject requests until Triton responds",
        lambda: {"": triton.num_open_breakers},
    )
    gauges.add("model_ready", "1 if the model takes requests, else 0", models, label="model", is_shared=True)
    gauges.add(
        "background_task_failing",
        "1 while the task fails, else 0; the log has the cause",
        lambda: {task.name: float(task.is_failing) for task in running_tasks()},
        label="task",
    )
    gauges.count(
        "background_task_failures",
        "Failed attempts",
        lambda: {task.name: task.num_failures for task in running_tasks()},
        label="task",
    )
