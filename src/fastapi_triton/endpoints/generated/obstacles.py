# SPDX-License-Identifier: Apache-2.0
"""The reasons why a model cannot have a generated endpoint, or why its endpoint leaves inputs out."""

from collections.abc import Mapping

from fastapi_triton.endpoints.generated import sequences
from fastapi_triton.triton.client import Unstreamable
from fastapi_triton.triton.model_config import ModelConfig


def left_out(config: ModelConfig, unstreamable: Unstreamable) -> Mapping[str, str]:
    """The optional inputs that the endpoint cannot carry, each with the reason."""
    if not config.decoupled:
        return {}
    names = {each.name for each in config.inputs if each.optional}
    return {name: _and_remedy(reason, unstreamable) for name, reason in unstreamable.inputs.items() if name in names}


def obstacles(config: ModelConfig, unstreamable: Unstreamable, *, keeps_sequences: bool = True) -> list[str]:
    """The reasons why a model cannot have an endpoint. Most models have none."""
    if config.sequences is not None and (reasons := sequences.obstacles(config, keeps_sequences=keeps_sequences)):
        return reasons
    if not config.decoupled:
        return []
    omitted = left_out(config, unstreamable)
    if len(omitted) == len(config.inputs):
        omitted = {}  # Triton needs at least one input
    reasons = [f"its input `{name}` {why}" for name, why in unstreamable.inputs.items() if name not in omitted]
    reasons += [f"its output `{name}` {why}" for name, why in unstreamable.outputs.items()]
    return [*reasons, *filter(None, [unstreamable.remedy])] if reasons else []


def _and_remedy(reason: str, unstreamable: Unstreamable) -> str:
    return "; ".join(filter(None, (reason, unstreamable.remedy)))
