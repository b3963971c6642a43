# SPDX-License-Identifier: Apache-2.0
"""Rules for the backend of a model: whether Triton finds it, and what it does not support."""

import difflib
from collections.abc import Iterator

from fastapi_triton.cli.check import named_files
from fastapi_triton.cli.check.backend import KNOWN
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, WARNING, Rules
from fastapi_triton.cli.check.rules_tensors import tensors
from fastapi_triton.cli.check.tensor import model_dims
from fastapi_triton.core.suggestions import nearest

RULES: Rules[ModelFolder] = Rules()
_PYTORCH = "pytorch"
_WITHOUT_OPTIONAL = (_PYTORCH, "tensorrt", "tensorflow", "openvino")
_UNKNOWN_TO_PYTORCH = ("TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64")
# Backends that Triton does not derive.
_OTHERS = ("dali", "fil", "tensorrtllm", "vllm")


@RULES.add("invalid-backend", ERROR, advice="Set `backend`, such as python, onnxruntime, tensorrt or pytorch.")
def invalid_backend(model: ModelFolder) -> Iterator[str]:
    """Triton finds no backend for the model, or `platform` is another backend's."""
    backend, platform = model.backend.name, model.backend.platform
    if model.raw is None or model.is_ensemble:
        return
    if not backend and not platform and not model.settings.get("default_model_filename"):
        yield f"Could not determine backend for model '{model.name}' with no backend in model configuration"
    elif not backend:
        yield f"unexpected platform type '{platform}'{_suggestion(platform)}"
    elif model.backend.expected_platforms and platform not in model.backend.expected_platforms:
        yield f"unexpected 'platform' and 'backend' pair, got: {platform}, {backend}"


@RULES.add("unknown-backend", WARNING, advice="Correct `backend`, or waive this if you have such a backend.")
def unknown_backend(model: ModelFolder) -> Iterator[str]:
    """Triton rejects a model without the library of its backend."""
    name = model.backend.name
    names = [*(known.backend for known in KNOWN), *_OTHERS]
    if name and name not in names:
        likely = [known.backend for known in KNOWN if known.platform == name]
        likely += [each for each in names if each.startswith(name)]
        likely += difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        if likely:
            yield f"unable to find backend library for backend '{name}'; did you mean `{likely[0]}`?"


@RULES.add("no-weights", WARNING, advice="Add it where Triton loads the model, or set `default_model_filename`.")
def no_weights(model: ModelFolder) -> Iterator[str]:
    """Triton rejects a model without the file of its backend."""
    name = model.settings.get("default_model_filename") or model.backend.filename
    has_others = model.settings.get("cc_model_filenames") or model.settings.get("runtime")
    if model.backend.filename and not model.is_python and not has_others:
        for version in model.served_versions:
            if not named_files.exists(named_files.joined(model.path / str(version), name)):
                yield f"unable to find {version}/{name}"


@RULES.add("unsupported-by-backend", ERROR, advice="Make the inputs required, and use another datatype or shape.")
def unsupported_by_backend(model: ModelFolder) -> Iterator[str]:
    """PyTorch, TensorRT, TensorFlow and OpenVINO have no optional inputs. PyTorch has fewer datatypes and shapes."""
    if model.settings.get("runtime"):  # such as PyTorch's model.py, which has no such limits
        return
    num_batch_dims = int(model.max_batch_size > 0)
    for prefix, tensor in tensors(model):
        datatype = tensor.get("data_type")
        if tensor.get("optional") and model.backend.name in _WITHOUT_OPTIONAL:
            yield f"'optional' is set to true while the backend model doesn't support optional input: {prefix}"
        if model.backend.name != _PYTORCH:
            continue
        if datatype in _UNKNOWN_TO_PYTORCH:
            yield f"unsupported datatype {datatype}: {prefix}"
        num_dims = num_batch_dims + len(model_dims(tensor))
        if datatype == "TYPE_STRING" and num_dims > 1:
            yield f"Triton only supports 1 dimensional List of String: {prefix} has {num_dims} dims"


def _suggestion(platform: str) -> str:
    """What was probably meant: the field `backend`, or another platform."""
    if any(platform == known.backend for known in KNOWN):
        return f'; it is a backend: write `backend: "{platform}"`'
    return nearest(platform, sorted({known.platform for known in KNOWN if known.platform})) if platform else ""
