# SPDX-License-Identifier: Apache-2.0
"""A Triton model config as plain data: what a request to the model must look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi_triton.datatypes import BY_CONFIG, Datatype


@dataclass(frozen=True, slots=True)
class TensorConfig:
    """One input or output. `dims` is without the batch dimension; -1 stands for any length."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool = False

    @property
    def is_scalar(self) -> bool:
        """Whether one plain value fits: every dimension is 1 or free."""
        return all(dim in (1, -1) for dim in self.dims)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The part of a model config that a frontend needs."""

    name: str
    max_batch_size: int
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    decoupled: bool = False

    @property
    def is_batched(self) -> bool:
        """Whether the wire shape has a leading batch dimension that `dims` does not show."""
        return self.max_batch_size > 0

    def input(self, name: str) -> TensorConfig | None:
        return next((tensor for tensor in self.inputs if tensor.name == name), None)

    def output(self, name: str) -> TensorConfig | None:
        return next((tensor for tensor in self.outputs if tensor.name == name), None)


def from_server(config: Mapping[str, Any]) -> ModelConfig:
    """Read what `GET /v2/models/<name>/config` answers (the effective config, auto-complete applied)."""
    policy = config.get("model_transaction_policy") or {}
    return ModelConfig(
        name=config["name"],
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=_tensors(config.get("input", ())),
        outputs=_tensors(config.get("output", ())),
        decoupled=bool(policy.get("decoupled", False)),
    )


def _tensors(entries: Sequence[Mapping[str, Any]]) -> tuple[TensorConfig, ...]:
    return tuple(
        TensorConfig(
            name=entry["name"],
            datatype=BY_CONFIG[entry["data_type"]],
            dims=tuple(int(dim) for dim in entry["dims"]),
            optional=bool(entry.get("optional", False)),
        )
        for entry in entries
    )
