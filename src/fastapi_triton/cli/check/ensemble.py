# SPDX-License-Identifier: Apache-2.0
"""An ensemble among the models of its repository."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from fastapi_triton.cli.check.ensemble_steps import Step, steps_of
from fastapi_triton.cli.check.repository import ModelFolder, broken_tensors


@dataclass(frozen=True, slots=True)
class Ensemble:
    """An ensemble among the models of its repository.

    Args:
        models: all models of the repository, by name.
        broken: the names of the models that have errors.
    """

    folder: ModelFolder
    models: Mapping[str, ModelFolder]
    broken: Set[str]

    @property
    def steps(self) -> tuple[Step, ...]:
        return steps_of(self.folder.settings)

    @property
    def inputs(self) -> list[Mapping[str, Any]]:
        return list(self.folder.settings.get("input", ()))

    @property
    def outputs(self) -> list[Mapping[str, Any]]:
        return list(self.folder.settings.get("output", ()))

    @property
    def max_batch_size(self) -> int:
        return int(self.folder.settings.get("max_batch_size", 0))

    def model_of(self, step: Step) -> ModelFolder | None:
        """The step's model, if its config.pbtxt is complete and has no errors; else None."""
        model = self.models.get(step.model)
        return model if model and step.model not in self.broken and is_complete(model) else None

    def cycle(self) -> list[str]:
        """The names of the models from this ensemble back to itself; empty if it does not run itself."""
        paths = [[self.folder.name]]
        seen: set[str] = set()
        while paths:
            path = paths.pop()
            folder = self.models.get(path[-1])
            for step in steps_of(folder.settings) if folder else ():
                if step.model == self.folder.name:
                    return [*path, step.model]
                if step.model not in seen:
                    seen.add(step.model)
                    paths.append([*path, step.model])
        return []


def is_complete(model: ModelFolder) -> bool:
    """Whether Triton adds no tensors to the config when it loads the model."""
    raw, adds = model.settings, model.completion
    is_declared = not adds.sides or bool(raw.get("input") and raw.get("output"))
    return is_declared and not broken_tensors(raw) and not (model.is_python and adds.tensors)


def in_order(models: Mapping[str, ModelFolder]) -> Iterator[ModelFolder]:
    """All ensembles, each after the ensembles among its steps."""
    visited: set[str] = set()
    for name in models:
        stack = [(name, False)]
        while stack:
            current, is_ready = stack.pop()
            folder = models.get(current)
            if folder is None or not folder.is_ensemble:
                continue
            if is_ready:
                yield folder
            elif current not in visited:
                visited.add(current)
                stack += [(current, True), *((step.model, False) for step in steps_of(folder.settings))]
