# SPDX-License-Identifier: Apache-2.0
"""An ensemble among the models of its repository."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from fastapi_triton.cli.check.ensemble_steps import Step, steps_of
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.tensor import is_broken


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

    def model_of(self, step: Step) -> ModelFolder | None:
        """The step's model, if its config.pbtxt is complete and has no errors; else None."""
        model = self.models.get(step.model)
        return model if model and step.model not in self.broken and is_complete(model) else None

    def run_order(self) -> tuple[list[Step], list[Step]]:
        """The steps in an order in which they can run, and those that never run."""
        given = {each.get("name", "") for each in self.folder.inputs}
        missing = [set(step.inputs.values()) - given for step in self.steps]
        readers: dict[str, list[Step]] = {}
        for step in self.steps:
            for tensor in missing[step.index]:
                readers.setdefault(tensor, []).append(step)
        runs = [step for step in self.steps if not missing[step.index]]
        for step in runs:  # which grows meanwhile
            for tensor in step.outputs.values():
                for reader in readers.pop(tensor, ()):
                    missing[reader.index].remove(tensor)
                    runs += [] if missing[reader.index] else [reader]
        return runs, [step for step in self.steps if missing[step.index]]

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
    adds = model.completion
    is_declared = not adds.sides or bool(model.inputs and model.outputs)
    return is_declared and not any(map(is_broken, model.tensors)) and not (model.is_python and adds.tensors)


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
