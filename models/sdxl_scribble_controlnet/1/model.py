# SPDX-License-Identifier: Apache-2.0
"""The model that clients use: it sends each row of a request to the stream model, and has no weights.

It never blocks: `execute` starts threads that wait for the engine. The last row of a request to end sends the response.
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
        """Keep a row's BLS iterator until Triton has freed its own reference, which `_respond` waits for."""
        self._iterators.append(iterator)

    def put(self, index: int, row: dict[str, Any]) -> None:
        """A row's outputs, each (1,)."""
        self._rows[index] = row
        self._count()

    def fail(self, error: Any) -> None:
        """A row's error. If a row fails, the response of the whole request is the first error."""
        with self._lock:
            self._error = self._error or error
        self._count()

    def _count(self) -> None:
        with self._lock:
            self._num_missing -= 1
            if self._num_missing:
                return
        self._respond()

    def _respond(self) -> None:
        # A thread of Triton that does not hold the GIL drops its references to the rows' iterators. If they were the
        # last ones, freeing the numpy arrays there would corrupt the heap. That thread handles its messages in order:
        # when it responds to this one, it has dropped all of them, and this thread frees the arrays.
        # This must precede the final response: afterwards `is_cancelled` reads freed memory and kills Triton.
        self._sender.is_cancelled()
        # Kept until they are sent: Triton drops outputs that were not requested without the GIL, too.
        tensors = [] if self._error is not None else self._tensors()
        send_final(self._sender, pb_utils.InferenceResponse(tensors, self._error))

    def _tensors(self) -> list[Any]:
        rows = [row for row in self._rows if row is not None]
        return [pb_utils.Tensor(name, np.stack([row[name] for row in rows])) for name in OUTPUTS]  # (rows, 1)


class Rejected(Exception):  # noqa: N818
    """A request that fails with this error at once."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


class TritonPythonModel:
    """The one instance, which serves all requests."""

    def initialize(self, args: dict[str, str]) -> None:
        model_config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in model_config.get("parameters", {}).items()}
        self.stream_model = parameters["stream_model"]
        # This limits the threads here. The engine has its own limit of requests.
        self.max_rows = int(parameters["max_open_rows"])
        self.input_names = [tensor["name"] for tensor in model_config["input"]]
        self.required_names = [tensor["name"] for tensor in model_config["input"] if not tensor.get("optional")]
        self.threads = ThreadPoolExecutor(self.max_rows, thread_name_prefix="row")
        # Start one thread now: if no other can be started later, it processes all rows.
        self.threads.submit(int).result()
        self.num_rows = 0
        self.lock = threading.Lock()

    def execute(self, requests: list[Any]) -> list[None]:
        """Start all requests. It must not raise: Triton would fail every request of the call, even those that run."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                pending, rows = self.take(request, sender)
            except Rejected as rejected:
                send_final(sender, pb_utils.InferenceResponse(error=rejected.error))
            except Exception:  # noqa: BLE001 (nothing runs yet: the request can fail here)
                send_final(sender, pb_utils.InferenceResponse(error=failure(traceback.format_exc())))
            else:
                self.start(pending, rows)
        return [None] * len(requests)

    def finalize(self) -> None:
        self.threads.shutdown()

    def take(self, request: Any, sender: Any) -> tuple[PendingRequest, list[dict[str, Any]]]:
        """Read and count the rows of a request. If this raises, nothing runs yet and nothing was sent."""
        # Triton checks only the number of inputs: it accepts an optional one in place of a required one.
        missing = [name for name in self.required_names if pb_utils.get_input_tensor_by_name(request, name) is None]
        if missing:
            raise Rejected(missing_input(missing[0]))
        rows = read_rows(request, self.input_names)
        with self.lock:
            if self.num_rows + len(rows) > self.max_rows:
                raise Rejected(queue_full(self.max_rows))
            self.num_rows += len(rows)
        return PendingRequest(sender, len(rows)), rows

    def start(self, pending: PendingRequest, rows: list[dict[str, Any]]) -> None:
        """Submit the rows to threads, which send the response."""
        for index, row in enumerate(rows):
            try:
                self.threads.submit(self.run, row, index, pending)
            except RuntimeError as error:  # no thread could be started; a running one processes the row later
                pb_utils.Logger.log_warn(f"no thread can be started, so a row waits: {error}")

    def run(self, row: dict[str, Any], index: int, pending: PendingRequest) -> None:
        """Process one row, on its own thread. Only this method catches every exception."""
        try:
            outputs = self.infer(row, pending)
        except Exception:  # noqa: BLE001 (a row's failure must not affect other requests)
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
            # At most two responses. With a third, Triton can deadlock: Triton's thread that delivers it waits for this
            # thread, this thread waits for the GIL, and another row's thread holds the GIL in `exec` while it waits for
            # Triton's thread.
            parameters={"terse": True},
        )
        responses = request.exec(decoupled=True)
        pending.keep(responses)
        for response in responses:
            if response.has_error():  # of Triton itself; 2.51 drops it
                return response.error()
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
    """The inputs of each row, each (1,), without the tensors that the request lacks."""
    columns: dict[str, Any] = {}
    for name in input_names:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            columns[name] = tensor.as_numpy()  # (rows, 1)
    num_rows = max(len(column) for column in columns.values())
    return [{name: column[index] for name, column in columns.items()} for index in range(num_rows)]


def send_final(sender: Any, response: Any) -> None:
    """Send the only response of a request. The sender must not be used afterwards."""
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
