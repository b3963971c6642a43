# SPDX-License-Identifier: Apache-2.0
"""Rules for instances: their groups, devices and resources."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
_ACCELERATORS = ("tensorrt", "cuda")


@RULES.add(
    "invalid-instance-group",
    ERROR,
    advice="Set `gpus` (ids from 0) only with KIND_GPU, and `profile` only for TensorRT.",
)
def invalid_instance_group(model: ModelFolder) -> Iterator[str]:
    """Triton rejects devices that do not fit the kind, and profiles without TensorRT."""
    if model.is_ensemble:
        return
    for name, group in _groups(model):
        kind, gpus = group.get("kind", "KIND_AUTO"), list(group.get("gpus", ()))
        if not isinstance(kind, str):
            yield f"instance group {name} has unexpected kind {kind}"
        if gpus and kind in ("KIND_CPU", "KIND_MODEL"):
            yield f"instance group {name} has kind {kind} but specifies one or more GPUs: {gpus}"
        elif any(gpu < 0 for gpu in gpus):
            yield f"instance group {name} specifies invalid or unsupported gpu id {min(gpus)}"
        profiles: Sequence[str] = group.get("profile", ())
        if profiles and not model.is_tensorrt:
            yield f"instance group {name} specifies profile field which is only supported for TensorRT models"
        for profile in profiles if model.is_tensorrt else ():
            if not (profile.isascii() and profile.isdigit()):
                yield f"instance group {name} specifies invalid profile '{profile}', not a non-negative integer"


@RULES.add("conflicting-resource", WARNING, advice="Set `global` in all groups, or in none.")
def conflicting_resource(model: ModelFolder) -> Iterator[str]:
    """With `--rate-limit`, Triton rejects a resource that is both global and per device."""
    scopes: dict[str, set[bool]] = defaultdict(set)
    for _, group in _groups(model):
        for resource in (group.get("rate_limiter") or {}).get("resources", ()):
            scopes[resource.get("name", "")].add(bool(resource.get("global")))
    for name, found in scopes.items():
        if len(found) > 1:
            yield f'Resource "{name}" is present as both global and device-specific resource'


@RULES.add("unknown-accelerator", WARNING, advice="Use `tensorrt` or `cuda`, or remove the accelerator.")
def unknown_accelerator(model: ModelFolder) -> Iterator[str]:
    """On a GPU, ONNX Runtime rejects other names of a `gpu_execution_accelerator`."""
    accelerators = (model.settings.get("optimization") or {}).get("execution_accelerators") or {}
    if model.backend.name == "onnxruntime":
        for each in accelerators.get("gpu_execution_accelerator", ()):
            if each.get("name") not in _ACCELERATORS:
                yield f"unknown Execution Accelerator '{each.get('name')}' is requested"


def _groups(model: ModelFolder) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The groups with their names, or the names that Triton gives them."""
    for index, group in enumerate(model.settings.get("instance_group", ())):
        yield group.get("name") or f"{model.name}_{index}", group
