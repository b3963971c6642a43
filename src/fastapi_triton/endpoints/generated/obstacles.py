# SPDX-License-Identifier: Apache-2.0
"""The reasons why a model cannot have a generated endpoint, and what a request to one may hold."""

from fastapi_triton.triton.generate_codec import unstreamable
from fastapi_triton.triton.model_config import ModelConfig

# Triton's generate extension reads this member as the request's id.
_RESERVED_IN_STREAMS = "id"


def takes_batches(config: ModelConfig) -> bool:
    """Whether a request may have several rows. generate_stream takes one, and adds the batch dimension itself."""
    return config.is_batched and not config.decoupled


def obstacles(config: ModelConfig) -> list[str]:
    """The reasons why a model cannot have an endpoint. Most models have none."""
    if config.is_sequence:
        return ["it is a sequence model; its requests need a sequence id, which generated endpoints cannot send"]
    if not config.decoupled:
        return []
    problems = [
        f"`{tensor.name}` is {tensor.datatype.wire} with dims {list(tensor.dims)}; Triton's generate_stream, which "
        "decoupled models need, supports at most one dimension, and neither FP16 nor BF16"
        for tensor in unstreamable(config)
    ]
    if config.input(_RESERVED_IN_STREAMS):
        problems.append(f"its input `{_RESERVED_IN_STREAMS}` has a name that Triton's generate_stream reserves")
    return list(dict.fromkeys(problems))
