# SPDX-License-Identifier: Apache-2.0
"""The messages of Triton's gRPC protocol: tensors → a request; a response → tensors. Needs the extra `grpc`."""

from tritonclient.grpc import service_pb2

from fastapi_triton.triton import infer_codec
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor


def request(inputs: Tensors, config: ModelConfig, request_id: str, version: str) -> service_pb2.ModelInferRequest:
    """The request for these inputs, which have no batch dimension.

    Raises:
        TypeError: an array does not have its tensor's datatype.
    """
    message = service_pb2.ModelInferRequest(model_name=config.name, model_version=version, id=request_id)
    outer = [1] if config.is_batched else []
    for name, tensor in inputs.items():
        message.inputs.add(name=name, datatype=tensor.datatype.wire, shape=[*outer, *tensor.shape])
        message.raw_input_contents.append(b"".join(infer_codec.serialize(name, tensor)))
    return message


def tensors(response: service_pb2.ModelInferResponse, config: ModelConfig) -> dict[str, Tensor]:
    """The outputs of a response, without the batch dimension. A Python model may return other outputs too.

    Raises:
        ValueError, KeyError, struct.error: the response cannot be read.
    """
    found: dict[str, Tensor] = {}
    for output, content in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.name in config.outputs_by_name:
            shape = list(output.shape)
            if config.is_batched and len(shape) > 1 and shape[0] == 1:
                del shape[0]
            found[output.name] = infer_codec.read(memoryview(content), BY_WIRE[output.datatype], shape)
    return found
