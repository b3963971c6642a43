# SPDX-License-Identifier: Apache-2.0
"""The steps of an ensemble, as its config has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NEWEST = -1  # a step's `model_version`


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `inputs` and `outputs`: the model's tensor → the ensemble tensor."""

    index: int
    model: str
    version: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    def __str__(self) -> str:
        return f"step {self.index} (`{self.model}`)"


def is_ensemble(config: Mapping[str, Any]) -> bool:
    """Whether the config is that of an ensemble, complete or not."""
    return "ensemble_scheduling" in config or config.get("platform") == "ensemble"


def steps_of(config: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of an ensemble; of another model, none."""
    steps = (config.get("ensemble_scheduling") or {}).get("step", ())
    return tuple(
        Step(
            index,
            step.get("model_name", ""),
            int(step.get("model_version", 0)),
            dict(sorted(step.get("input_map", {}).items())),  # protobuf's maps have no order
            dict(sorted(step.get("output_map", {}).items())),
        )
        for index, step in enumerate(steps)
    )


def decoupled_models(configs: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The decoupled ones of these models. Triton derives it for an ensemble: one with a decoupled step is decoupled."""
    found = frozenset(
        name
        for name, config in configs.items()
        if not is_ensemble(config) and (config.get("model_transaction_policy") or {}).get("decoupled")
    )
    steps = {name: frozenset(step.model for step in steps_of(config)) for name, config in configs.items()}
    while more := {name for name, models in steps.items() if name not in found and models & found}:
        found |= more
    return found
