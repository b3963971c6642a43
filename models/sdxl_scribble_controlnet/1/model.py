# SPDX-License-Identifier: Apache-2.0
"""The public contract over the engine: each row of a request becomes a request of the stream model, all at once.

It holds no weights and never blocks: `execute` hands the rows to threads that wait for the engine, and a request is
answered when its last row is done.
"""

import json
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

OUTPUTS = ("generated_image", "seed", "info")


class PendingRequest:
    """The rows of one request. The last row to end sends the response."""

    def __init__(self, sender: Any, num_rows: int) -> None:
        self._sender = sender
        self._rows: list[dict[str, Any] | None] = [None] * num_rows
        self._num_missing = num_rows
        self._error: Any = None
        self._iterators: list[Any] = []
        self._lock = threading.Lock()

    def keep(self, iterator: Any) -> None:
        """Hold a row's BLS iterator until Triton has let go of it, which `_answer` waits for."""
        self._iterators.append(iterator)

    def put(self, index: int, row: dict[str, Any]) -> None:
        """A row's outputs, each (1,)."""
        self._rows[index] = row
        self._count()

    def fail(self, error: Any) -> None:
        """A request is answered as a whole: with its first error, if a row has one."""
        with self._lock:
            self._error = self._error or error
        self._count()

    def _count(self) -> None:
        with self._lock:
            self._num_missing -= 1
            if self._num_missing:
                return
        self._answer()

    def _answer(self) -> None:
        # Triton forgets the rows' iterators on a thread of its own that does not hold the GIL; were it the last to hold
        # their numpy arrays, these would take the heap with them. That thread takes its messages in order: with its
        # answer to this one it has forgotten them all, and they end with us.
        # Asked before the final response: afterwards the question would read freed memory and kill Triton.
        self._sender.is_cancelled()
        # Held until they are sent: those that the caller did not ask for are dropped without the GIL too.
        tensors = [] if self._error is not None else self._tensors()
        send_final(self._sender, pb_utils.InferenceResponse(tensors, self._error))

    def _tensors(self) -> list[Any]:
        rows = [row for row in self._rows if row is not None]
        return [pb_utils.Tensor(name, np.stack([row[name] for row in rows])) for name in OUTPUTS]  # (rows, 1)


class Refused(Exception):  # noqa: N818
    """A request that is answered with this error at once."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


class TritonPythonModel:
    """One instance serves everybody."""

    def initialize(self, args: dict[str, str]) -> None:
        model_config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in model_config.get("parameters", {}).items()}
        self.stream_model = parameters["stream_model"]
        # The engine refuses what is too much for it; this bound is for the threads here.
        self.max_rows = int(parameters["max_open_rows"])
        self.input_names = [tensor["name"] for tensor in model_config["input"]]
        self.required_names = [tensor["name"] for tensor in model_config["input"] if not tensor.get("optional")]
        self.threads = ThreadPoolExecutor(self.max_rows, thread_name_prefix="row")
        # Start one thread now: if no other can be started later, it still works through the rows.
        self.threads.submit(int).result()
        self.num_rows = 0
        self.lock = threading.Lock()

    def execute(self, requests: list[Any]) -> list[None]:
        """Start all requests. It must not raise: Triton would fail every request of the call, also those that run."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                pending, rows = self.take(request, sender)
            except Refused as refused:
                send_final(sender, pb_utils.InferenceResponse(error=refused.error))
            except Exception:  # noqa: BLE001 (nothing runs yet: the request can be answered here)
                send_final(sender, pb_utils.InferenceResponse(error=failure(traceback.format_exc())))
            else:
                self.start(pending, rows)
        return [None] * len(requests)

    def finalize(self) -> None:
        self.threads.shutdown()

    def take(self, request: Any, sender: Any) -> tuple[PendingRequest, list[dict[str, Any]]]:
        """Read and count the rows of a request. Nothing runs yet, and nothing was sent, when this raises."""
        # Triton only counts inputs: an optional one in the place of a required one gets past it.
        missing = [name for name in self.required_names if pb_utils.get_input_tensor_by_name(request, name) is None]
        if missing:
            raise Refused(missing_input(missing[0]))
        rows = read_rows(request, self.input_names)
        with self.lock:
            if self.num_rows + len(rows) > self.max_rows:
                raise Refused(queue_full(self.max_rows))
            self.num_rows += len(rows)
        return PendingRequest(sender, len(rows)), rows

    def start(self, pending: PendingRequest, rows: list[dict[str, Any]]) -> None:
        """Hand the rows to threads, which answer the request."""
        for index, row in enumerate(rows):
            try:
                self.threads.submit(self.run, row, index, pending)
            except RuntimeError as error:  # no thread could be started; a running one takes the row later
                pb_utils.Logger.log_warn(f"no thread can be started, so a row waits: {error}")

    def run(self, row: dict[str, Any], index: int, pending: PendingRequest) -> None:
        """One row through the engine, on a thread of its own; the one place that catches everything."""
        try:
            outputs = self.infer(row, pending)
        except Exception:  # noqa: BLE001 (whatever happens to a row stays with its request)
            outputs = failure(traceback.format_exc())
        self.free_row()
        if isinstance(outputs, dict):
            pending.put(index, outputs)
        else:
            pending.fail(outputs)

    def infer(self, row: dict[str, Any], pending: PendingRequest) -> Any:
        """The outputs of the stream model's last response, or its error."""
        request = pb_utils.InferenceRequest(
            model_name=self.stream_model,
            inputs=[pb_utils.Tensor(name, value) for name, value in row.items()],
            requested_output_names=["event", *OUTPUTS],
            # At most two responses. With a third, Triton can deadlock: its thread that delivers it waits for this one,
            # which waits for the GIL, which another row's thread holds in `exec`, where it waits for Triton's thread.
            parameters={"terse": True},
        )
        responses = request.exec(decoupled=True)
        pending.keep(responses)
        for response in responses:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
            if "generated_image" in tensors:
                return {name: tensors[name] for name in OUTPUTS}
            if "event" in tensors and tensors["event"][0] == b"failed":
                return error_of(tensors["info"][0])
        return failure("the engine returned no picture")

    def free_row(self) -> None:
        with self.lock:
            self.num_rows -= 1


def read_rows(request: Any, input_names: list[str]) -> list[dict[str, Any]]:
    """One mapping per row, without the tensors that the request does not carry; each (1,)."""
    columns: dict[str, Any] = {}
    for name in input_names:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            columns[name] = tensor.as_numpy()  # (rows, 1)
    num_rows = max(len(column) for column in columns.values())
    return [{name: column[index] for name, column in columns.items()} for index in range(num_rows)]


def send_final(sender: Any, response: Any) -> None:
    """The only response of a request. After it the sender must not be used."""
    try:
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except pb_utils.TritonModelException as error:
        pb_utils.Logger.log_warn(f"a response could not be sent: {error}")


def missing_input(name: str) -> Any:
    body = {"code": "missing_input", "detail": f"`{name}` is required, but missing.", "field": name}
    return pb_utils.TritonError(json.dumps(body), pb_utils.TritonError.INVALID_ARG)


def error_of(info: bytes) -> Any:
    """The stream model's error, from the `info` of its `failed` event."""
    body = json.loads(info)
    code = getattr(pb_utils.TritonError, body.pop("triton_code"))
    return pb_utils.TritonError(json.dumps(body), code)


def queue_full(max_rows: int) -> Any:
    body = {
        "code": "queue_full",
        "detail": f"This model handles at most {max_rows} rows at a time. Retry later.",
        "retry_after_s": 2,
    }
    return pb_utils.TritonError(json.dumps(body), pb_utils.TritonError.UNAVAILABLE)


def failure(reason: str) -> Any:
    pb_utils.Logger.log_error(reason)
    body = {"code": "generation_failed", "detail": "The picture could not be made. Triton's log has the reason."}
    return pb_utils.TritonError(json.dumps(body), pb_utils.TritonError.INTERNAL)
