# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Triton's Python backend: the module that `model.py` imports, and requests for it."""

import json
import sys
import threading
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PATIENCE_S = 60.0
FINAL = 1
DATATYPES = {
    "TYPE_STRING": np.object_,
    "TYPE_FP32": np.float32,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_BOOL": np.bool_,
}


class TritonModelException(Exception):  # noqa: N818
    """Triton's exception of the same name."""


class TritonError(Exception):
    INVALID_ARG, UNAVAILABLE, INTERNAL, CANCELLED = "INVALID_ARG", "UNAVAILABLE", "INTERNAL", "CANCELLED"

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text, self.code = text, code


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name, self.array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self.array


@dataclass
class Response:
    tensors: list[Tensor] = field(default_factory=list)
    _error: TritonError | None = None

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError:
        assert self._error is not None
        return self._error

    def output_tensors(self) -> list[Tensor]:
        return self.tensors

    def outputs(self) -> dict[str, Any]:
        """Arrays by name."""
        return {tensor.name(): tensor.array for tensor in self.tensors}

    @property
    def problem(self) -> dict[str, Any]:
        problem: dict[str, Any] = json.loads(self.error().text)
        return problem


class Request:
    """A request and its own response sender."""

    def __init__(self, tensors: Iterable[Tensor], **parameters: Any) -> None:
        self.sent_parameters = parameters
        self.tensors = {tensor.name(): tensor for tensor in tensors}
        self.responses: list[Response] = []
        self.num_finals = 0
        self.num_unreferenced = 0
        self.is_disconnected = False
        self.fails_to_send = False
        self.before_sending: Callable[[Response], None] = lambda _: None
        self._has_ended = threading.Event()

    def parameters(self) -> str:
        return json.dumps(self.sent_parameters) if self.sent_parameters else ""

    def get_response_sender(self) -> "Request":
        return self

    def is_cancelled(self) -> bool:
        return self.is_disconnected

    def send(self, response: Response, *, flags: int = 0) -> None:
        self.before_sending(response)
        assert not self.num_finals, "a response after the final one"
        # The response, `tensor` and the call hold it. Without a fourth reference, Triton may free it without the GIL.
        self.num_unreferenced += sum(sys.getrefcount(tensor) <= 3 for tensor in response.tensors)
        self.responses.append(response)
        if flags == FINAL:
            self.num_finals += 1
            self._has_ended.set()
        if self.fails_to_send:
            raise TritonModelException("the client has disconnected")

    def all_responses(self) -> list[Response]:
        """Wait for the final response and return all."""
        assert self._has_ended.wait(PATIENCE_S), f"no final response after {len(self.responses)}"
        assert not self.num_unreferenced, "tensors without another reference while they were sent"
        return self.responses

    def final(self) -> Response:
        return self.all_responses()[-1]

    @property
    def has_ended(self) -> bool:
        return self._has_ended.is_set()


@dataclass
class Metric:
    value: float = 0.0

    def set(self, value: float) -> None:
        self.value = value

    def increment(self, amount: float) -> None:
        assert amount > 0
        self.value += amount


class MetricFamily:
    COUNTER, GAUGE = "counter", "gauge"

    def __init__(self, *, name: str, description: str, kind: str) -> None:
        assert description
        self.kind = kind
        self.metrics: dict[str, Metric] = {}
        FAMILIES[name] = self

    def Metric(self, *, labels: dict[str, str]) -> Metric:  # noqa: N802
        return self.metrics.setdefault(json.dumps(labels, sort_keys=True), Metric())


FAMILIES: dict[str, MetricFamily] = {}
LOG: list[str] = []


def backend() -> Any:
    """The module. Always the same object, because modules that import it keep it."""
    module: Any = sys.modules.get("triton_python_backend_utils")
    if module is None:
        module = types.ModuleType("triton_python_backend_utils")
        module.TritonError = TritonError
        module.TritonModelException = TritonModelException
        module.Tensor = Tensor
        module.InferenceResponse = lambda output_tensors=(), error=None: Response(list(output_tensors), error)
        module.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
        module.MetricFamily = MetricFamily
        module.get_input_tensor_by_name = lambda request, name: request.tensors.get(name)
        module.Logger = types.SimpleNamespace(log_error=LOG.append, log_warn=LOG.append, log_info=LOG.append)
        sys.modules["triton_python_backend_utils"] = module
    return module
