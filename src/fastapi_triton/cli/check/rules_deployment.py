# SPDX-License-Identifier: Apache-2.0
"""Rules over the frontend's settings and the models that it stands before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi_triton.cli.check.repository import queue_policy
from fastapi_triton.cli.check.rule import WARNING, Rules
from fastapi_triton.core.settings import Settings

# --http-max-input-size, as Triton has it where nobody sets it. No endpoint of Triton reports it.
TRITON_MAX_INPUT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelBehind:
    """A model's config, and the settings of the frontend before it."""

    raw: Mapping[str, Any]
    settings: Settings


SETTINGS_RULES: Rules[Settings] = Rules()
RULES: Rules[ModelBehind] = Rules()


@SETTINGS_RULES.add(
    "body-limit",
    WARNING,
    advice="Lower max_body_bytes, or start Triton with a higher --http-max-input-size, which this check cannot see.",
)
def body_limit(settings: Settings) -> Iterator[str]:
    """A picture that comes as a file goes on as base64 text, a third longer. Where that is over Triton's own limit (64
    MiB unless --http-max-input-size says otherwise), callers meet a late failure instead of our 413."""
    at_triton = settings.max_body_bytes * 4 // 3
    if at_triton > TRITON_MAX_INPUT_BYTES:
        yield (
            f"max_body_bytes is {settings.max_body_bytes:,}, up to {at_triton:,} bytes at Triton, which takes "
            f"{TRITON_MAX_INPUT_BYTES:,} by default"
        )


@RULES.add("admission-over-queue", WARNING, advice="Set max_in_flight below the model's max_queue_size.")
def admission_over_queue(model: ModelBehind) -> Iterator[str]:
    """Where the frontend lets in as many as Triton's queue holds, callers meet Triton's refusal, which knows no
    Retry-After of ours, and one model's queue fills before the frontend says a word."""
    limit = queue_policy(model.raw).get("max_queue_size") or 0
    if limit and model.settings.max_in_flight >= limit:
        yield f"max_in_flight is {model.settings.max_in_flight}, max_queue_size {limit}"


@RULES.add(
    "client-timeout",
    WARNING,
    advice="Set allow_timeout_override, so that the frontend can pass on what is left of a request's time; or "
    "request_timeout_s above the queue's default timeout and the slowest job together.",
)
def client_timeout(model: ModelBehind) -> Iterator[str]:
    """A request may wait in Triton's queue for as long as the frontend waits for its answer; then it is given up when
    its turn comes, and the work runs all the same."""
    policy = queue_policy(model.raw)
    queue_s = int(policy.get("default_timeout_microseconds") or 0) / 1e6
    if policy.get("allow_timeout_override"):
        return  # the frontend passes its timeout on to Triton
    if queue_s and queue_s >= model.settings.request_timeout_s:
        yield f"request_timeout_s is {model.settings.request_timeout_s:g}, but the queue alone may take {queue_s:g} s"
