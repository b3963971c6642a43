# SPDX-License-Identifier: Apache-2.0
"""What of an app's own state Prometheus is shown: places at Triton, Triton itself, and whether its models are there."""

from collections.abc import Sequence

from fastapi_triton.admission import Admission
from fastapi_triton.catalogue import Catalogue
from fastapi_triton.endpoints import InferEndpoint
from fastapi_triton.gauges import Gauges, Reading
from fastapi_triton.triton.client import TritonClient


def show(
    gauges: Gauges,
    *,
    admission: Admission,
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

    gauges.add("in_flight", "Requests at Triton", lambda: {"": admission.in_flight})
    gauges.add("max_in_flight", "The most that may be", lambda: {"": admission.max_in_flight})
    gauges.add("triton_up", "Whether Triton answers", lambda: {"": float(triton.is_up)}, is_shared=True)
    gauges.add("model_ready", "Whether the model takes requests", models, label="model", is_shared=True)
