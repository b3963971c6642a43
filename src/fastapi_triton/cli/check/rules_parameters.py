# SPDX-License-Identifier: Apache-2.0
"""Rules for what a config hands to a backend and to repository agents: `parameters`, `runtime` and names."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi_triton.cli.check import named_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, Rules

RULES: Rules[ModelFolder] = Rules()
_MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY/"
# Backend → its parameters with few values.
_VALUES = {
    "python": {"FORCE_CPU_ONLY_INPUT_TENSORS": ("yes", "no")},
    "tensorrt": {"allocation_strategy": ("STATIC", "ON_PROFILE_CHANGE")},
}


@RULES.add("invalid-parameter", ERROR, advice="Use a valid value, or remove the parameter.")
def invalid_parameter(model: ModelFolder) -> Iterator[str]:
    """The Python and the TensorRT backend reject other values, and Python environments that do not exist."""
    given: Mapping[str, Mapping[str, Any]] = model.settings.get("parameters") or {}
    for key, values in _VALUES.get(model.backend.name, {}).items():
        if key in given and (value := given[key].get("string_value", "")) not in values:
            yield f"Incorrect value for {key}: `{value}`; valid: {', '.join(values)}"
    environment = str(given.get("EXECUTION_ENV_PATH", {}).get("string_value", ""))
    # Other paths exist only on Triton's machine.
    is_checked = model.is_python and environment.startswith(_MODEL_DIRECTORY)
    if is_checked and not named_files.exists(
        named_files.joined(model.path, environment.removeprefix(_MODEL_DIRECTORY))
    ):
        yield f"Failed to get the canonical path for EXECUTION_ENV_PATH {environment}: there is no such file"


@RULES.add("invalid-runtime", ERROR, advice="Remove `runtime`; or name a library of the backend or the model.")
def invalid_runtime(model: ModelFolder) -> Iterator[str]:
    """Triton looks for it only in the folders of the version, the model and the backend."""
    runtime = str(model.settings.get("runtime", ""))
    if ".." in runtime.split("/"):
        yield f"backend library name '{runtime}' escapes backend directory"
    elif runtime and runtime != "model.py" and not runtime.endswith((".so", ".dll")):
        folders = [model.path, *(model.path / str(version) for version in model.served_versions)]
        if not any(named_files.is_file(named_files.joined(folder, runtime)) for folder in folders):
            yield f"unable to find backend library '{runtime}'"


@RULES.add("invalid-repository-agents", ERROR, advice="Name each agent, or remove `model_repository_agents`.")
def invalid_repository_agents(model: ModelFolder) -> Iterator[str]:
    """Triton finds agents by name. Triton 2.51 (release 24.10) crashes without any agent."""
    agents = model.settings.get("model_repository_agents")
    if agents is not None:
        if not agents.get("agents"):
            yield "model_repository_agents lists no agents"
        elif not all(each.get("name") for each in agents["agents"]):
            yield "unable to find 'libtritonrepoagent_.so': an agent has no name"
