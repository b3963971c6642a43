# SPDX-License-Identifier: Apache-2.0
"""Advice about queues, timeouts, optional inputs and the response cache of models that Triton loads."""

from collections.abc import Iterator, Sequence

from fastapi_triton.cli.check.repository import ModelFolder, queue_policy
from fastapi_triton.cli.check.rule import NOTE, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()


@RULES.add(
    "no-dynamic-batching",
    WARNING,
    advice="Add `dynamic_batching { default_queue_policy { max_queue_size: … } }`, or waive this if the model "
    "limits requests itself.",
)
def no_dynamic_batching(model: ModelFolder) -> Iterator[str]:
    """Without `dynamic_batching` Triton neither batches requests nor limits or cancels waiting ones."""
    if model.max_batch_size > 0 and not _has_scheduler(model):
        yield f"max_batch_size is {model.max_batch_size}, but there is no dynamic_batching"


@RULES.add(
    "unbounded-queue",
    WARNING,
    advice="Set max_queue_size above max_in_flight. A model that responds from its own threads should reject requests "
    "with UNAVAILABLE instead: on Triton 2.51, the limit halves its throughput.",
)
def unbounded_queue(model: ModelFolder) -> Iterator[str]:
    """Without `max_queue_size`, Triton's queue grows without limit."""
    batching = model.settings.get("dynamic_batching")
    if batching is not None and not queue_policy(model.settings).get("max_queue_size"):
        yield "dynamic_batching has no max_queue_size"
    elif model.raw is not None and model.has_config_file and not model.max_batch_size and not _has_scheduler(model):
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


@RULES.add("timeout-override-off", NOTE, advice="Set allow_timeout_override: true if clients use Triton's own port.")
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
    """Triton only counts inputs: an optional one can replace a required one, which becomes None."""
    required = [each.get("name") for each in model.inputs if not each.get("optional")]
    if required and len(required) < len(model.inputs):
        yield f"{', '.join(f'`{each}`' for each in required)} can be missing unnoticed"


@RULES.add("batch-dimension", NOTE, advice="Remove the -1 if it stands for the batch.")
def batch_dimension(model: ModelFolder) -> Iterator[str]:
    """Triton adds the batch dimension to `dims`."""
    tensors = model.tensors
    if model.max_batch_size > 0 and tensors and all(_begins_with_free_dim(each.get("dims", ())) for each in tensors):
        shape = [-1, *tensors[0]["dims"]]
        yield f"max_batch_size is {model.max_batch_size}, so the shape of `{tensors[0].get('name')}` is {shape}"


def _begins_with_free_dim(dims: Sequence[int]) -> bool:
    """Whether it has a -1, and more dims after it: a single -1 is a length."""
    return len(dims) > 1 and dims[0] == -1


@RULES.add("response-cache", NOTE, advice="Turn it off unless requests repeat.")
def response_cache(model: ModelFolder) -> Iterator[str]:
    """The response cache costs time: it hashes every input."""
    if (model.settings.get("response_cache") or {}).get("enable"):
        yield "response_cache is on"


def _has_scheduler(model: ModelFolder) -> bool:
    return any(name in model.settings for name in ("dynamic_batching", "sequence_batching")) or model.is_ensemble
