# SPDX-License-Identifier: Apache-2.0
"""The engine as a decoupled Triton model: `execute` parses requests and submits them to the engine."""

import json
import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from diffusion_engine.config import EngineConfig
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import RowValues, parse_request
from triton_adapter.listener import TritonListener
from triton_adapter.log_handler import TritonLogHandler
from triton_adapter.response_stream import ResponseStream
from triton_adapter.watcher import Watcher


class TritonPythonModel:
    """One instance, with its own engine and its own copy of the networks."""

    def initialize(self, args: dict[str, str]) -> None:
        # Not at the top, because it imports torch, which takes seconds: before it loads the model, Triton imports this
        # module in another process, only to complete the config.
        from diffusion_engine.engine_builder import build_engine

        TritonLogHandler.install()
        model_config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in model_config.get("parameters", {}).items()}
        config = EngineConfig.read(parameters, os.environ, version_folder=Path(__file__).resolve().parent)
        is_on_gpu = args["model_instance_kind"] == "GPU"
        self.input_names = [tensor["name"] for tensor in model_config["input"]]
        gpu_index = int(args["model_instance_device_id"]) if is_on_gpu else None
        with ThreadPoolExecutor(1) as builder:  # its OpenMP threads end with it, see `use_cores`
            self.engine = builder.submit(build_engine, config, gpu_index=gpu_index).result()
        self.watcher = Watcher(self.engine.metrics)
        self.engine.start()
        self.watcher.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self.take(request)

    def finalize(self) -> None:
        self.engine.stop()
        self.watcher.stop()

    def take(self, request: Any) -> None:
        """Start one request. Only this method catches every exception.

        `execute` must not raise: Triton would fail every request of the call, even those that run.
        """
        responses = ResponseStream(request.get_response_sender())
        listener = TritonListener(responses)
        try:
            listener = TritonListener(responses, is_terse=is_terse(request))
            values = read_values(request, self.input_names)
            if values["describe"]:
                listener.described(self.engine.describe())
                return
            diffusion = parse_request(values, self.engine.capabilities)
            state = self.engine.submit(diffusion, listener, preview_every=int(values["preview_every"] or 0))
            listener.queued(self.engine.queue_reporter.position_of(state))
            self.watcher.watch(state, responses)
        except RequestError as error:
            listener.rejected(error)
        except Exception:  # noqa: BLE001
            pb_utils.Logger.log_error(traceback.format_exc())
            listener.rejected(
                RequestError("generation_failed", "The picture could not be made. Triton's log has the reason.")
            )


def is_terse(request: Any) -> bool:
    """Whether the request sets the parameter `terse`: send only `queued` and the last event."""
    try:
        parameters = request.parameters()
    except UnicodeDecodeError:  # Triton passes on the bytes that a client sent
        raise RequestError(
            "invalid_text", "A name or value of the request parameters is not UTF-8. Send UTF-8 text."
        ) from None
    return json.loads(parameters or "{}").get("terse") is True


def read_values(request: Any, input_names: list[str]) -> RowValues:
    """The inputs by name; None for a tensor that the request lacks. Tensors are [1]."""
    values: dict[str, Any] = {}
    for name in input_names:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        values[name] = None if tensor is None else plain_value(tensor.as_numpy().ravel()[0])
    return values


def plain_value(value: Any) -> bytes | int | float:
    """An element of a tensor in Python's types. FP32 has 0.7 as 0.69999999, which would make 6 of 10 steps, not 7."""
    if isinstance(value, np.float32):
        return float(str(value))  # the shortest decimal number of this value, as the client wrote it
    plain: bytes | int | float = value.item() if isinstance(value, np.generic) else value
    return plain
