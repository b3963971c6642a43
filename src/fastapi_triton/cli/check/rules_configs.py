# SPDX-License-Identifier: Apache-2.0
"""Rules for one model's folder and config."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi_triton.cli.check.repository import ModelFolder, broken_tensors, queue_policy
from fastapi_triton.cli.check.rule import ERROR, NOTE, WARNING, Rules
from fastapi_triton.triton import generate_codec

RULES: Rules[ModelFolder] = Rules()
_SHELL_CHARACTERS = re.compile(r"""[\s;|&$`<>()\\'"*?\[\]{}#!~]""")


@RULES.add("unreadable-config", ERROR, advice="Correct the line.")
def unreadable_config(model: ModelFolder) -> Iterator[str]:
    """Triton cannot read the config, and does not load the model."""
    if model.error:
        yield model.error


@RULES.add("no-config", NOTE, advice="Write a config.pbtxt; `curl TRITON/v2/models/NAME/config` shows the guess.")
def no_config(model: ModelFolder) -> Iterator[str]:
    """The backend guesses the config, so nothing can be checked offline."""
    if not model.has_config_file:
        yield "there is no config.pbtxt"


@RULES.add("auto-completed", NOTE, advice="Declare them in config.pbtxt, or check with --triton.")
def auto_completed(model: ModelFolder) -> Iterator[str]:
    """The backend adds missing tensors, so they cannot be checked offline."""
    if model.has_config_file and model.raw is not None and not model.is_ensemble:
        for side in ("input", "output"):
            if not model.raw.get(side):
                yield f"the config declares no {side}s"


@RULES.add("name-mismatch", ERROR, advice="Rename one of them, or remove `name`.")
def name_mismatch(model: ModelFolder) -> Iterator[str]:
    """Triton loads a model only under its folder's name."""
    if model.raw is not None and model.raw.get("name") != model.name:
        yield f'the config says name: "{model.raw.get("name")}", but the folder is {model.name}'


@RULES.add("shell-characters", WARNING, advice="Use letters, digits, `-`, `_` and `.`.")
def shell_characters(model: ModelFolder) -> Iterator[str]:
    """Triton rejects such names of Python models; older versions may hang."""
    if model.is_python and (found := _SHELL_CHARACTERS.search(model.name)):
        yield f"the name has `{found[0]}`"


@RULES.add("no-version", ERROR, advice="Move the model into a folder `1`.")
def no_version(model: ModelFolder) -> Iterator[str]:
    """Triton loads only version folders, whose names are numbers. An ensemble's may be empty."""
    if not model.versions:
        yield "there is no version folder"


@RULES.add("no-model-file", ERROR, advice="Add it, or set `default_model_filename`.")
def no_model_file(model: ModelFolder) -> Iterator[str]:
    """The Python backend needs model.py in every version folder."""
    if model.is_python and not model.has_model_file:
        yield "a version folder has no model.py"


@RULES.add(
    "broken-tensor",
    ERROR,
    advice="Give each tensor a unique name, a data_type and dims.",
)
def broken_tensor(model: ModelFolder) -> Iterator[str]:
    """Triton rejects tensors without name, datatype or dims, duplicate names, and an empty reshape without batching."""
    for broken in broken_tensors(model.settings):
        yield f"`{broken}` lacks a name, a data_type or dims"
    for side in ("input", "output"):
        tensors = _tensors(model, side)
        for name, count in Counter(each.get("name") for each in tensors).items():
            if count > 1:
                yield f"the {side} `{name}` is declared {count} times"
        if not _max_batch_size(model):
            for each in tensors:
                if "reshape" in each and not each["reshape"].get("shape"):
                    yield f"`{each.get('name')}` has an empty reshape, but max_batch_size is 0"


@RULES.add(
    "no-dynamic-batching",
    WARNING,
    advice="Add `dynamic_batching { default_queue_policy { max_queue_size: … } }`, or waive this if the model "
    "limits requests itself.",
)
def no_dynamic_batching(model: ModelFolder) -> Iterator[str]:
    """Without `dynamic_batching` Triton neither batches requests nor limits or cancels waiting ones."""
    if _max_batch_size(model) > 0 and not _has_scheduler(model):
        yield f"max_batch_size is {_max_batch_size(model)}, but there is no dynamic_batching"


@RULES.add(
    "unbounded-queue",
    WARNING,
    advice="Set max_queue_size above max_in_flight. On Triton 2.51 (release 24.10), this halves the throughput of "
    "models that respond from their own threads. Let these reject requests with UNAVAILABLE, and waive the rule.",
)
def unbounded_queue(model: ModelFolder) -> Iterator[str]:
    """Without `max_queue_size`, Triton's queue grows without limit."""
    batching = model.settings.get("dynamic_batching")
    if batching is not None and not queue_policy(model.settings).get("max_queue_size"):
        yield "dynamic_batching has no max_queue_size"
    elif model.raw is not None and model.has_config_file and not _max_batch_size(model) and not _has_scheduler(model):
        yield "max_batch_size is 0 and there is no dynamic_batching, so no queue policy"


@RULES.add(
    "timeout-override-ignored",
    WARNING,
    advice="Set default_timeout_microseconds, or remove allow_timeout_override.",
)
def timeout_override_ignored(model: ModelFolder) -> Iterator[str]:
    """A request's timeout can only shorten a default timeout, and there is none."""
    policy = queue_policy(model.settings)
    if policy.get("allow_timeout_override") and not policy.get("default_timeout_microseconds"):
        yield "allow_timeout_override is true, but default_timeout_microseconds is 0"


@RULES.add(
    "timeout-override-off",
    NOTE,
    advice="Set allow_timeout_override: true if clients use Triton's own port.",
)
def timeout_override_off(model: ModelFolder) -> Iterator[str]:
    """Triton silently ignores a request's `timeout` parameter."""
    policy = queue_policy(model.settings)
    if policy.get("default_timeout_microseconds") and not policy.get("allow_timeout_override"):
        yield "there is a default timeout, but requests cannot shorten it"


@RULES.add(
    "optional-beside-required",
    WARNING,
    advice="Let the model reject missing inputs with INVALID_ARG, and waive this rule.",
)
def optional_beside_required(model: ModelFolder) -> Iterator[str]:
    """Triton does not check input names: an optional input can replace a required one, which becomes None."""
    inputs = _tensors(model, "input")
    required = [each.get("name") for each in inputs if not each.get("optional")]
    if required and len(required) < len(inputs):
        yield f"{', '.join(f'`{each}`' for each in required)} can be missing unnoticed"


@RULES.add(
    "optional-unsupported",
    ERROR,
    advice="Make the inputs required.",
)
def optional_unsupported(model: ModelFolder) -> Iterator[str]:
    """The PyTorch backend does not load models with optional inputs."""
    is_pytorch = model.settings.get("backend") == "pytorch" or model.settings.get("platform") == "pytorch_libtorch"
    if is_pytorch:
        for each in _tensors(model, "input"):
            if each.get("optional"):
                yield f"`{each.get('name')}` is optional"


@RULES.add(
    "unstreamable-tensor",
    WARNING,
    advice="Optional inputs are left out of the endpoint; other tensors leave the model without one. Use FP32, at most "
    "one free dimension, or base64 text.",
)
def unstreamable_tensor(model: ModelFolder) -> Iterator[str]:
    """Triton's generate_stream, by which decoupled models run over HTTP, cannot carry the tensor."""
    if model.config is not None and model.config.decoupled:
        unstreamable = generate_codec.unstreamable(model.config)
        yield from (f"the input `{name}` {reason}" for name, reason in unstreamable.inputs.items())
        yield from (f"the output `{name}` {reason}" for name, reason in unstreamable.outputs.items())


@RULES.add("response-cache", NOTE, advice="Turn it off unless requests repeat.")
def response_cache(model: ModelFolder) -> Iterator[str]:
    """The response cache costs time: it hashes every input."""
    if (model.settings.get("response_cache") or {}).get("enable"):
        yield "response_cache is on"


def _tensors(model: ModelFolder, side: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = model.settings.get(side, ())
    return found


def _max_batch_size(model: ModelFolder) -> int:
    return int(model.settings.get("max_batch_size", 0))


def _has_scheduler(model: ModelFolder) -> bool:
    return any(name in model.settings for name in ("dynamic_batching", "sequence_batching")) or model.is_ensemble
