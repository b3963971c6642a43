# SPDX-License-Identifier: Apache-2.0
"""Rules for the frontend's settings, together with its models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi_triton.cli.check.repository import queue_policy
from fastapi_triton.cli.check.rule import WARNING, Rules
from fastapi_triton.core.settings import Settings

# Triton's default of --http-max-input-size. No endpoint of Triton reports it.
TRITON_MAX_INPUT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelWithSettings:
    """A model's config, and the settings of the frontend in front of it."""

    raw: Mapping[str, Any]
    settings: Settings


SETTINGS_RULES: Rules[Settings] = Rules()
RULES: Rules[ModelWithSettings] = Rules()


@SETTINGS_RULES.add("body-limit", WARNING, advice="Lower max_body_bytes, or raise Triton's --http-max-input-size.")
def body_limit(settings: Settings) -> Iterator[str]:
    """As base64, files grow by a third. Triton rejects more than 64 MiB by default, without the frontend's 413."""
    at_triton = settings.max_body_bytes * 4 // 3
    if at_triton > TRITON_MAX_INPUT_BYTES:
        yield (
            f"max_body_bytes is {settings.max_body_bytes:,}, up to {at_triton:,} bytes as base64; Triton accepts "
            f"{TRITON_MAX_INPUT_BYTES:,} by default"
        )


@RULES.add("admission-over-queue", WARNING, advice="Set max_in_flight below the model's max_queue_size.")
def admission_over_queue(model: ModelWithSettings) -> Iterator[str]:
    """Triton's queue fills before the frontend's, and its rejections lack Retry-After."""
    limit = queue_policy(model.raw).get("max_queue_size") or 0
    if limit and model.settings.max_in_flight >= limit:
        yield f"max_in_flight is {model.settings.max_in_flight}, and max_queue_size is {limit}"


@RULES.add(
    "client-timeout",
    WARNING,
    advice="Set allow_timeout_override, or raise request_timeout_s above the queue timeout plus the slowest request.",
)
def client_timeout(model: ModelWithSettings) -> Iterator[str]:
    """A request can reach its deadline in Triton's queue, and still run later."""
    policy = queue_policy(model.raw)
    queue_s = int(policy.get("default_timeout_microseconds") or 0) / 1e6
    if policy.get("allow_timeout_override"):
        return  # the frontend passes the remaining time on to Triton
    if queue_s and queue_s >= model.settings.request_timeout_s:
        yield f"request_timeout_s is {model.settings.request_timeout_s:g}, but the queue alone may take {queue_s:g} s"
