# SPDX-License-Identifier: Apache-2.0
"""Folders of models as text: their configs, files and Python models."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TENSORS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
UNBATCHED = f'backend: "python" {TENSORS}'
BATCHED = f"{UNBATCHED} max_batch_size: 8"


def queue(policy: str) -> str:
    return f"{BATCHED} dynamic_batching {{ default_queue_policy {{ {policy} }} }}"


def accelerated(backend: str, name: str) -> str:
    accelerators = f'gpu_execution_accelerator {{ name: "{name}" }}'
    return f'backend: "{backend}" {TENSORS} optimization {{ execution_accelerators {{ {accelerators} }} }}'


def rate_limited(*resources: tuple[str, bool]) -> str:
    """Instance groups that use these resources, each with its name and whether it is global."""
    groups = (
        f'instance_group {{ rate_limiter {{ resources {{ name: "{name}" global: {str(is_global).lower()} }} }} }}'
        for name, is_global in resources
    )
    return " ".join(groups)


def corrid(data_type: str) -> str:
    control = f"{{ kind: CONTROL_SEQUENCE_CORRID data_type: {data_type} }}"
    return f'sequence_batching {{ control_input {{ name: "ID" control {control} }} }}'


def inputs(tensors: str, more: str = "max_batch_size: 8 dynamic_batching { }") -> str:
    return f'backend: "python" input [ {tensors} ] output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ] {more}'


def labels(filename: str) -> str:
    return BATCHED.replace("dims: [ 1 ]", f'dims: 1 label_filename: "{filename}"')


def parameter(key: str, value: str) -> str:
    return f'{UNBATCHED} parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


ENGINE = "from diffusion_engine.config import EngineConfig"


def vae(config: str, *parameters: tuple[str, str], folder: str = "xl/vae", model: str = ENGINE) -> "Folder":
    """An engine whose checkpoint is `xl`, with this config of its VAE."""
    pairs = (("checkpoint", "xl"), *parameters)
    texts = " ".join(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in pairs)
    whole = f'{{"_class_name": "AutoencoderKL", "block_out_channels": [128, 256]{config}}}'
    return Folder(f"{UNBATCHED} {texts}", model, files={f"{folder}/config.json": whole})


AUTO_COMPLETE = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config
"""


def model_py(response: str) -> str:
    """A Python model that returns this response."""
    return f"""
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        value = np.ones(3)
        return [pb_utils.InferenceResponse({response})]
"""


def method(signature: str, decorator: str = "") -> str:
    """A Python model with this method."""
    return f"class TritonPythonModel:\n    {decorator}\n    def {signature}: ..."


@dataclass(frozen=True)
class Folder:
    """A model's folder; a file that is None is left out."""

    config: str | None = BATCHED
    model_py: str | None = field(default_factory=lambda: model_py('[pb_utils.Tensor("y", value)]'))
    version: str = "1"
    name: str = "m"
    files: Mapping[str, str] = field(default_factory=dict)  # more files of the version
