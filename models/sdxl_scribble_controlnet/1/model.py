# SPDX-License-Identifier: Apache-2.0
"""Joins the engine to Triton: tensors → checked rows → a queue → tensors or an error. All else is in the engine."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.intake import RowValues, read_request
from diffusion_engine.pipeline import GeneratedPicture, Interruption, PreparedRequest, ScribblePipeline
from diffusion_engine.request import RequestError
from diffusion_engine.weights import load_pipeline
from diffusion_engine.worker import Worker

# The names of Triton's codes, which become HTTP statuses; any other refusal is the caller's mistake, a 400.
# Names, because Triton fills in `pb_utils.TritonError` only after this module has been imported.
TRITON_CODES = {
    "cancelled": "CANCELLED",
    "deadline_exceeded": "UNAVAILABLE",
    "generation_failed": "INTERNAL",
    "out_of_memory": "UNAVAILABLE",
    "overloaded": "UNAVAILABLE",
}


class TritonPythonModel:
    """One instance: its own copy of the networks, making one picture at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        model_config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in model_config.get("parameters", {}).items()}
        config = EngineConfig.read(parameters, os.environ, version_folder=Path(__file__).resolve().parent)
        is_on_gpu = args["model_instance_kind"] == "GPU"
        networks = load_pipeline(config, gpu_index=int(args["model_instance_device_id"]) if is_on_gpu else None)
        capabilities = Capabilities.of_checkpoint(config.checkpoint)
        self.input_names = [tensor["name"] for tensor in model_config["input"]]
        self.pipeline = ScribblePipeline(networks, capabilities, max_pixels=config.max_pixels)
        self.pipeline.warm_up()
        self.worker = Worker(max_waiting=config.max_waiting)
        self.worker.start()

    def execute(self, requests: list[Any]) -> list[None]:
        """Checks each request, queues it, and returns at once; the worker answers each as soon as it is done.

        So a refusal waits for nobody, and no request of a dynamic batch waits for its neighbours.
        """
        arrived = time.monotonic()
        for request in requests:
            answer = Answer(request.get_response_sender())
            with answer.to_failures():
                self.worker.check_room()
                job = partial(self.make_pictures, answer, self.prepare_rows(request), arrived)
                self.worker.submit(job)
        return [None] * len(requests)

    def finalize(self) -> None:
        self.worker.stop()

    def prepare_rows(self, request: Any) -> list[PreparedRequest]:
        """A request is answered as a whole, so one bad row refuses it before any picture is made."""
        rows = read_rows(request, self.input_names)
        prepared = []
        for index, row in enumerate(rows):
            with naming_row(index, len(rows)):
                prepared.append(self.pipeline.prepare(read_request(row, self.pipeline.capabilities)))
        return prepared

    def make_pictures(self, answer: "Answer", rows: list[PreparedRequest], arrived: float) -> None:
        with answer.to_failures():
            pictures = []
            for index, row in enumerate(rows):
                interruption = Interruption.after(arrived, row.request.timeout_s, answer.is_cancelled)
                with naming_row(index, len(rows)):
                    pictures.append(self.pipeline.generate(row, interruption))
            answer.send(picture_response(pictures))


class Answer:
    """The one answer that a request gets."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self.is_cancelled: Callable[[], bool] = sender.is_cancelled

    def send(self, response: Any) -> None:
        self.sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    @contextmanager
    def to_failures(self) -> Iterator[None]:
        """The one place that catches everything: whatever happens to a request stays with that request."""
        try:
            yield
        except RequestError as error:
            self.send(error_response(error))
        except Exception:  # noqa: BLE001
            pb_utils.Logger.log_error(traceback.format_exc())
            detail = "the picture could not be made; Triton's log says why"
            self.send(error_response(RequestError("generation_failed", detail)))


@contextmanager
def naming_row(index: int, num_rows: int) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        raise error.in_row(index, num_rows) from error


def read_rows(request: Any, input_names: list[str]) -> list[RowValues]:
    """One mapping per row, None for a tensor that the request does not carry. Tensors are [rows, 1]."""
    columns: dict[str, list[Any]] = {}
    for name in input_names:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            columns[name] = tensor.as_numpy().ravel().tolist()
    num_rows = max(len(column) for column in columns.values())
    return [
        {name: columns[name][index] if name in columns else None for name in input_names} for index in range(num_rows)
    ]


def picture_response(pictures: list[GeneratedPicture]) -> Any:
    contents = [[picture.content] for picture in pictures]
    infos = [[json.dumps(picture.info).encode()] for picture in pictures]
    seeds = [[picture.seed] for picture in pictures]
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("generated_image", np.array(contents, dtype=np.object_)),  # (rows, 1)
            pb_utils.Tensor("seed", np.array(seeds, dtype=np.int64)),  # (rows, 1)
            pb_utils.Tensor("info", np.array(infos, dtype=np.object_)),  # (rows, 1)
        ]
    )


def error_response(error: RequestError) -> Any:
    code = getattr(pb_utils.TritonError, TRITON_CODES.get(error.code, "INVALID_ARG"))
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_json(), code))
