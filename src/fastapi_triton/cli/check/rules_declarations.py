# SPDX-License-Identifier: Apache-2.0
"""Rules for an app's declared endpoints, which are compared with the configs of their models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fastapi_triton.cli.check.rule import ERROR, Rules
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.endpoints.declared.declaration import Declaration
from fastapi_triton.triton.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Declared:
    """A declaration, and all models: name → config, or None if the config is unknown."""

    declaration: Declaration
    configs: Mapping[str, ModelConfig | None]


RULES: Rules[Declared] = Rules()


@RULES.add("unknown-model", ERROR, advice="Correct the name, or add the model.")
def unknown_model(declared: Declared) -> Iterator[str]:
    """The endpoint always fails with 503."""
    for name in declared.declaration.models:
        if name not in declared.configs:
            yield f"there is no model {name}{nearest(name, declared.configs)}"


@RULES.add("contract-mismatch", ERROR, advice="Make the pydantic models and the config agree.")
def contract_mismatch(declared: Declared) -> Iterator[str]:
    """The endpoint fails with 503 and these reasons."""
    declaration = declared.declaration
    model, stream_model = _config(declared, declaration.model), _config(declared, declaration.stream_model)
    if model is not None and (stream_model is not None or not declaration.stream_model):
        # decoupled-over-infer reports decoupled models.
        plain = replace(model, decoupled=False)
        yield from contract.mismatches(
            declaration.request, declaration.response, plain, stream_model, declaration.unstreamable
        )


@RULES.add(
    "decoupled-over-infer",
    ERROR,
    advice="Declare a model that is not decoupled, with this one as stream_model; or set `decoupled: False` if it "
    "responds once.",
)
def decoupled_over_infer(declared: Declared) -> Iterator[str]:
    """Triton's own /infer returns 501 for decoupled models."""
    model = _config(declared, declared.declaration.model)
    if model is not None and model.decoupled:
        yield contract.decoupled(model)


def _config(declared: Declared, name: str | None) -> ModelConfig | None:
    return declared.configs.get(name) if name else None
