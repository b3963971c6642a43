# SPDX-License-Identifier: Apache-2.0
"""Joins the engine to Triton: tensors → one request per row → tensors or an error. All else is in the engine."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.intake import RowValues, read_request
from diffusion_engine.pipeline import GeneratedPicture, Interruption, ScribblePipeline
from diffusion_engine.request import RequestError
from diffusion_engine.weights import load_pipeline

# The names of Triton's codes, which become HTTP statuses; any other refusal is the caller's mistake, a 400.
# Names, because Triton fills in `pb_utils.TritonError` only after this module has been imported.
TRITON_CODES = {
    "cancelled": "CANCELLED",
    "deadline_exceeded": "UNAVAILABLE",
    "generation_failed": "INTERNAL",
    "out_of_memory": "UNAVAILABLE",
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

    def execute(self, requests: list[Any]) -> list[None]:
        """Answers each request of a dynamic batch as soon as it is done, so that none waits for its neighbours."""
        arrived = time.monotonic()
        for request in requests:
            sender = request.get_response_sender()
            response = self.respond(request, arrived, sender.is_cancelled)
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None] * len(requests)

    def finalize(self) -> None:
        del self.pipeline

    def respond(self, request: Any, arrived: float, is_cancelled: Callable[[], bool]) -> Any:
        """The one place that catches everything: whatever happens to a request stays with that request."""
        try:
            return picture_response(self.generate_rows(request, arrived, is_cancelled))
        except RequestError as error:
            return error_response(error)
        except Exception:  # noqa: BLE001
            pb_utils.Logger.log_error(traceback.format_exc())
            return error_response(
                RequestError("generation_failed", "the picture could not be made; Triton's log says why")
            )

    def generate_rows(self, request: Any, arrived: float, is_cancelled: Callable[[], bool]) -> list[GeneratedPicture]:
        """Every row is checked before the first picture is made: a request is answered as a whole."""
        rows = read_rows(request, self.input_names)
        prepared = []
        for index, row in enumerate(rows):
            with naming_row(index, len(rows)):
                prepared.append(self.pipeline.prepare(read_request(row, self.pipeline.capabilities)))
        pictures = []
        for index, diffusion in enumerate(prepared):
            interruption = Interruption.after(arrived, diffusion.request.timeout_s, is_cancelled)
            with naming_row(index, len(rows)):
                pictures.append(self.pipeline.generate(diffusion, interruption))
        return pictures


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
