# SPDX-License-Identifier: Apache-2.0
"""Rules over one model's folder and config."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi_triton.cli.check.repository import ModelFolder, broken_tensors, queue_policy
from fastapi_triton.cli.check.rule import ERROR, NOTE, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
_WIDE = ("TYPE_FP16", "TYPE_BF16")


@RULES.add("unreadable-config", ERROR, advice="Mend the line that is named.")
def unreadable_config(model: ModelFolder) -> Iterator[str]:
    """Triton cannot read the config either, and does not load the model."""
    if model.error:
        yield model.error


@RULES.add(
    "no-config", NOTE, advice="Write a config.pbtxt; `curl TRITON/v2/models/NAME/config` shows what was made up."
)
def no_config(model: ModelFolder) -> Iterator[str]:
    """Without a config.pbtxt the backend says at loading what the model takes, so nothing can be held against it
    offline. Auto-complete has taken a channel count for a batch size before."""
    if not model.has_config_file:
        yield "there is no config.pbtxt"


@RULES.add("auto-completed", NOTE, advice="Declare them in config.pbtxt, or check with --triton.")
def auto_completed(model: ModelFolder) -> Iterator[str]:
    """Tensors that are not in the text are added by the backend at loading, so they cannot be checked offline."""
    if model.has_config_file and model.raw is not None:
        for side in ("input", "output"):
            if not model.raw.get(side):
                yield f"the config declares no {side}s"


@RULES.add("name-mismatch", ERROR, advice="Rename one of the two, or leave `name` out.")
def name_mismatch(model: ModelFolder) -> Iterator[str]:
    """Triton loads a model only under the name of its folder."""
    if model.raw is not None and model.raw.get("name") != model.name:
        yield f'the config says name: "{model.raw.get("name")}", but the folder is {model.name}'


@RULES.add("no-version", ERROR, advice="Put the model into a folder `1`.")
def no_version(model: ModelFolder) -> Iterator[str]:
    """Triton loads version folders, whose names are numbers; without one there is nothing to load."""
    if not model.versions and not _is_ensemble(model):
        yield "there is no version folder"


@RULES.add("no-model-file", ERROR, advice="Add it, or name the file in `default_model_filename`.")
def no_model_file(model: ModelFolder) -> Iterator[str]:
    """The Python backend looks for model.py in every version folder that it loads."""
    if model.is_python and not model.has_model_file:
        yield "a version folder has no model.py"


@RULES.add(
    "broken-tensor",
    ERROR,
    advice="Give it a name of its own, a data_type and at least one dimension; `dims: [ 1 ]` is a plain value.",
)
def broken_tensor(model: ModelFolder) -> Iterator[str]:
    """Triton refuses a tensor without a name, datatype or dims, one that is there twice, and an empty reshape where
    max_batch_size is 0."""
    for broken in broken_tensors(model.settings):
        yield f"`{broken}` lacks a name, a data_type or dims"
    for side in ("input", "output"):
        tensors = _tensors(model, side)
        for name, count in Counter(each.get("name") for each in tensors).items():
            if count > 1:
                yield f"the {side} `{name}` is there {count} times"
        if not _max_batch_size(model):
            for each in tensors:
                if "reshape" in each and not each["reshape"].get("shape"):
                    yield f"`{each.get('name')}` has an empty reshape, but max_batch_size is 0"


@RULES.add(
    "no-dynamic-batching",
    WARNING,
    advice="Add `dynamic_batching { default_queue_policy { max_queue_size: … } }`, or waive it where the model "
    "answers from its own threads and bounds them itself.",
)
def no_dynamic_batching(model: ModelFolder) -> Iterator[str]:
    """Without a `dynamic_batching` block Triton joins no requests, knows no queue limit and no queue timeout, and a
    request that waits cannot be cancelled."""
    if _max_batch_size(model) > 0 and not _has_scheduler(model):
        yield f"max_batch_size is {_max_batch_size(model)}, but there is no dynamic_batching"


@RULES.add(
    "unbounded-queue",
    WARNING,
    advice="Set `dynamic_batching.default_queue_policy.max_queue_size`, above the frontend's max_in_flight. On "
    "Triton 2.51 that policy costs a Python model that answers from its own threads half its throughput: "
    "there refuse in the model, with UNAVAILABLE, and waive this rule.",
)
def unbounded_queue(model: ModelFolder) -> Iterator[str]:
    """Triton queues without a bound unless `max_queue_size` says otherwise, so under load every request waits and
    none is refused."""
    batching = model.settings.get("dynamic_batching")
    if batching is not None and not queue_policy(model.settings).get("max_queue_size"):
        yield "dynamic_batching has no max_queue_size"
    elif model.raw is not None and model.has_config_file and not _max_batch_size(model) and not _has_scheduler(model):
        yield "max_batch_size is 0 and there is no dynamic_batching, so no queue policy"


@RULES.add(
    "timeout-override-ignored",
    WARNING,
    advice="Set default_timeout_microseconds to the longest wait that makes sense, or drop allow_timeout_override.",
)
def timeout_override_ignored(model: ModelFolder) -> Iterator[str]:
    """A request's own timeout only shortens a default that is not 0; with the default of 0 it is ignored silently."""
    policy = queue_policy(model.settings)
    if policy.get("allow_timeout_override") and not policy.get("default_timeout_microseconds"):
        yield "allow_timeout_override is true, but default_timeout_microseconds is 0"


@RULES.add(
    "timeout-override-off",
    NOTE,
    advice="Set allow_timeout_override: true if callers of Triton's own port are to shorten their wait.",
)
def timeout_override_off(model: ModelFolder) -> Iterator[str]:
    """A request's own `timeout` parameter is ignored without a word where allow_timeout_override is off."""
    policy = queue_policy(model.settings)
    if policy.get("default_timeout_microseconds") and not policy.get("allow_timeout_override"):
        yield "there is a default timeout, but requests cannot shorten it"


@RULES.add(
    "optional-beside-required",
    WARNING,
    advice="Have the model refuse missing inputs with INVALID_ARG, and waive this rule.",
)
def optional_beside_required(model: ModelFolder) -> Iterator[str]:
    """Triton counts inputs and does not look at their names: a request that leaves out a required input but brings an
    optional one passes, and the model meets None. The frontend checks the names; other callers go past it."""
    inputs = _tensors(model, "input")
    required = [each.get("name") for each in inputs if not each.get("optional")]
    if required and len(required) < len(inputs):
        yield f"{', '.join(f'`{each}`' for each in required)} can be missing unnoticed"


@RULES.add(
    "optional-unsupported",
    ERROR,
    advice="Make the inputs required, or put a Python model before it that fills them in.",
)
def optional_unsupported(model: ModelFolder) -> Iterator[str]:
    """The PyTorch backend does not load a model with optional inputs."""
    is_pytorch = model.settings.get("backend") == "pytorch" or model.settings.get("platform") == "pytorch_libtorch"
    if is_pytorch:
        for each in _tensors(model, "input"):
            if each.get("optional"):
                yield f"`{each.get('name')}` is optional"


@RULES.add(
    "unstreamable-tensor",
    WARNING,
    advice="Declare FP32 and at most one dimension, or base64 text; else only gRPC reaches the model.",
)
def unstreamable_tensor(model: ModelFolder) -> Iterator[str]:
    """Over HTTP a decoupled model is reached through /generate_stream alone, which carries plain values and flat lists,
    and no FP16 or BF16."""
    if (model.settings.get("model_transaction_policy") or {}).get("decoupled"):
        for each in (*_tensors(model, "input"), *_tensors(model, "output")):
            if each.get("data_type") in _WIDE or len(each.get("dims", ())) > 1:
                yield f"`{each.get('name')}` is {each.get('data_type')} with dims {list(each.get('dims', ()))}"


@RULES.add("response-cache", NOTE, advice="Leave it off unless the same requests come again and again.")
def response_cache(model: ModelFolder) -> Iterator[str]:
    """Triton's response cache hashes every input and costs time wherever inputs do not repeat."""
    if (model.settings.get("response_cache") or {}).get("enable"):
        yield "response_cache is on"


def _tensors(model: ModelFolder, side: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = model.settings.get(side, ())
    return found


def _max_batch_size(model: ModelFolder) -> int:
    return int(model.settings.get("max_batch_size", 0))


def _has_scheduler(model: ModelFolder) -> bool:
    return any(name in model.settings for name in ("dynamic_batching", "sequence_batching")) or _is_ensemble(model)


def _is_ensemble(model: ModelFolder) -> bool:
    return "ensemble_scheduling" in model.settings
