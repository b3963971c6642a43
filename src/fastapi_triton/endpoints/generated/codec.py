# SPDX-License-Identifier: Apache-2.0
"""The codec of a generated endpoint: a JSON body → requests to Triton; their outputs → the JSON response.

The body is an object with a member per input. If the model takes batches, it may be a list of such objects. The
response has the same form, with a member per output.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy.typing as npt
import orjson

from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.generated import batches, classification, rows, sequences
from fastapi_triton.endpoints.generated.batches import Inputs
from fastapi_triton.endpoints.generated.obstacles import left_out, obstacles
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.json_codec import Arrays
from fastapi_triton.triton.client import CARRIES_ALL, Unstreamable
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor


class GeneratedModel:
    """One model's endpoint without HTTP. `obstacles` are the reasons why the model cannot have one.

    `config` is Triton's (`full_config`) without the inputs that the endpoint leaves out; `left_out` has their reasons.
    """

    def __init__(
        self, config: ModelConfig, unstreamable: Unstreamable = CARRIES_ALL, *, keeps_sequences: bool = True
    ) -> None:
        self.full_config = config
        self.obstacles = obstacles(config, unstreamable, keeps_sequences=keeps_sequences)
        self.left_out = left_out(config, unstreamable)
        self.config = replace(config, inputs=tuple(each for each in config.inputs if each.name not in self.left_out))
        # The outputs that are returned as classes.
        self.classes: Mapping[str, int] = {}
        self._rows = rows.RowReader(self.config, self.left_out)

    def with_config(self, config: ModelConfig) -> Self:
        """The same model, whose tensors are as this config says."""
        model = copy(self)
        model.config = config
        model._rows = rows.RowReader(config, self.left_out)
        return model

    def with_classes(self, num_classes: int) -> Self:
        """The same model, whose response has classes in place of the outputs that the option `classes` applies to.

        Raises:
            InvalidRequestError: it applies to none, or the number is out of range.
        """
        model = copy(self)
        model.classes = classification.requested(self.config, num_classes)
        model.config = classification.classified(self.config, model.classes)
        return model

    def read(self, body: bytes, limits: ImageLimits) -> Inputs:
        """The requests of a JSON body.

        Raises:
            UnreadableRequestError: it is not JSON.
            InvalidRequestError: it does not fit the config; every problem is listed.
            TooLargeError: a picture or the number of values exceeds its limit.
        """
        value = rows.parse(body, limits)
        is_batch = isinstance(value, list)
        if is_batch:
            batches.require_size(self.config, len(value))
        found = self._rows.read(value if is_batch else [value], limits, is_batch=is_batch)
        parameters = sequences.parameters(value) if self.config.sequences is not None else {}
        return Inputs(batches.parts(self.config, found), len(value) if is_batch else None, parameters)

    def to_json(self, outputs: Sequence[Mapping[str, Tensor]], inputs: Inputs, arrays: Arrays) -> bytes:
        """The JSON response. `outputs` are those of each part of the request.

        Raises:
            InferenceError: the outputs do not fit the model's config.
        """
        response: list[dict[str, Any]] = [{}] * (inputs.num_rows or 1)
        for part, tensors in zip(inputs.parts, outputs, strict=True):
            arrays_by_row = batches.output_rows(self.config, tensors, len(part.rows))
            for index, row in zip(part.rows, arrays_by_row, strict=True):
                response[index] = {name: self._value(name, array, arrays) for name, array in row.items()}
        return orjson.dumps(response if inputs.is_batch else response[0], option=orjson.OPT_SERIALIZE_NUMPY)

    def _value(self, name: str, array: npt.NDArray[Any], arrays: Arrays) -> Any:
        if name in self.classes:
            return classification.decode(array, self.full_config.outputs_by_name[name].datatype)
        return json_codec.encode(array, self.config.outputs_by_name[name], arrays)
