# SPDX-License-Identifier: Apache-2.0
"""Python models whose process has died. Triton (2.51) never starts one again, and calls the model ready all the same.

What is known of it comes from requests: the first after the death finds out, and fails, and so do those that were
running. Without one, streams that were running stay silent for ever.
"""

import logging
from dataclasses import dataclass
from typing import Any

import orjson

from fastapi_triton.errors import FastAPITritonError, ModelNotReadyError

logger = logging.getLogger(__name__)

CODE = "model_process_died"
_RETRY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests a model has answered and failed, since it was loaded."""

    answered: int
    failed: int

    @classmethod
    def of_statistics(cls, body: bytes) -> "Counts":
        """From the answer to `GET /v2/models/{name}/stats`, over all versions."""
        versions: list[dict[str, Any]] = orjson.loads(body)["model_stats"]
        stats = [each["inference_stats"] for each in versions]
        return cls(sum(each["success"]["count"] for each in stats), sum(each["fail"]["count"] for each in stats))


def is_death(text: str) -> bool:
    """Whether Triton says by this that a model's process is gone."""
    return text.startswith("Stub process ") and "is not healthy" in text


def death(model: str) -> ModelNotReadyError:
    """For who asks such a model."""
    return ModelNotReadyError(
        f"The process that ran the model {model} has died, and Triton does not start it again by itself. Try again "
        "when Triton has been restarted, or has loaded the model anew.",
        code=CODE,
        retry_after_s=_RETRY_AFTER_S,
    )


class ModelProcesses:
    """Which models' processes are dead, as far as requests have told."""

    def __init__(self) -> None:
        # And what Triton counted when it was first asked afterwards.
        self._dead: dict[str, Counts | None] = {}

    def learn_from(self, model: str, error: FastAPITritonError) -> None:
        """A request to this model failed."""
        if error.code == CODE and model not in self._dead:
            logger.error("model %s: its process has died; Triton must be restarted, or the model loaded anew", model)
            self._dead[model] = None

    def answered(self, model: str) -> None:
        """A request to this model did not."""
        if self._dead:
            self._dead.pop(model, None)

    def forget(self) -> None:
        """Triton went away: what comes back has started its processes anew."""
        self._dead.clear()

    def is_dead(self, model: str) -> bool:
        return model in self._dead

    def compare(self, model: str, counts: Counts) -> None:
        """It lives again where it has answered somebody, or was loaded anew, which is when Triton counts from 0."""
        before = self._dead.get(model)
        if before is None:
            self._dead[model] = counts
        elif counts.answered != before.answered or counts.failed < before.failed:
            del self._dead[model]
            logger.info("model %s: its process is there again", model)
