# SPDX-License-Identifier: Apache-2.0
"""What of an app's own state Prometheus is shown: places at Triton, Triton itself, and whether its models are there."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fastapi_triton.catalogue import Catalogue
from fastapi_triton.endpoints import InferEndpoint
from fastapi_triton.gauges import Gauges, Reading
from fastapi_triton.triton.client import TritonClient


class Places(Protocol):
    """How many of a model's places are taken; of an admission for all models, `model` is empty."""

    @property
    def model(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def max_in_flight(self) -> int: ...

    @property
    def waiting(self) -> int: ...


def show(
    gauges: Gauges,
    *,
    places: Callable[[], Sequence[Places]],
    triton: TritonClient,
    endpoints: Sequence[InferEndpoint],
    catalogue: Catalogue | None,
) -> None:
    """Have all of it read whenever the numbers are; `endpoints` may still grow."""

    def models() -> Reading:
        found = {entry.name: float(bool(entry.versions)) for entry in catalogue.entries} if catalogue else {}
        for endpoint in endpoints:
            found.update(dict.fromkeys(endpoint.declaration.models, float(endpoint.declaration.is_ready)))
        return found

    def of_places(read: Callable[[Places], int]) -> Callable[[], Reading]:
        return lambda: {each.model: read(each) for each in places()}

    def most() -> Reading:
        # Names that Triton has not been seen to have share an admission of their own, which is no model's capacity.
        return {each.model: each.max_in_flight for each in places() if each.model}

    gauges.add("in_flight", "Requests at Triton", of_places(lambda each: each.in_flight), label="model")
    gauges.add("max_in_flight", "The most that may be", most, label="model")
    gauges.add("waiting", "Requests that wait for a place", of_places(lambda each: each.waiting), label="model")
    gauges.add("triton_up", "Whether Triton answers", lambda: {"": float(triton.is_up)}, is_shared=True)
    gauges.add("model_ready", "Whether the model takes requests", models, label="model", is_shared=True)
