# SPDX-License-Identifier: Apache-2.0
"""Python models whose stub process died, and the exchanges that wait for them. `process_check.py` updates this state.

Triton never restarts a dead stub process. Requests that were running in it get no response, so this module ends their
exchanges when it learns of the death.
"""

import logging
import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import orjson

from fastapi_triton.core.errors import ModelNotReadyError
from fastapi_triton.core.slot import current_slot

logger = logging.getLogger(__name__)

CODE = "model_process_died"
_RETRY_AFTER_S = 10.0
_DEATH = re.compile(r"Stub process '(.+?)(_\d+){1,2}' is not healthy\.?")


@dataclass(frozen=True, slots=True)
class Counts:
    """A model's statistics since it was loaded: successful requests, failed requests and executions.

    A request that fails because the stub process is dead is not an execution. An error that the model returns is one.
    """

    answered: int
    failed: int
    executed: int

    @classmethod
    def of_statistics(cls, body: bytes) -> "Counts":
        """From the response of `GET /v2/models/{name}/stats`, summed over all versions."""
        versions: list[dict[str, Any]] = orjson.loads(body)["model_stats"]
        stats = [each["inference_stats"] for each in versions]
        return cls(
            sum(each["success"]["count"] for each in stats),
            sum(each["fail"]["count"] for each in stats),
            sum(each["execution_count"] for each in versions),
        )

    @property
    def num_unexecuted(self) -> int:
        """Failed requests without an execution. Without batching, only a dead stub process adds to them."""
        return self.answered + self.failed - self.executed

    def has_run_since(self, before: "Counts") -> bool:
        """Whether the model has executed a request since `other`, or was reloaded, so that Triton counts from 0."""
        return (self.answered, self.executed) != (before.answered, before.executed) or self.failed < before.failed


@dataclass(slots=True)
class _Death:
    """A dead stub process. `counts` are its last statistics; `is_admitted`: Triton reports the model as not ready."""

    counts: Counts | None
    is_admitted: bool


def is_death(text: str, model: str) -> bool:
    """Whether this is Triton's message for the death of this model's stub process. The model may return it too."""
    found = _DEATH.fullmatch(text)
    return found is not None and found[1] == model


def death(model: str) -> ModelNotReadyError:
    """The error of requests to such a model."""
    return ModelNotReadyError(
        f"The process that ran the model {model} has died. Try again after Triton has been restarted, "
        "or the model has been unloaded and loaded.",
        code=CODE,
        retry_after_s=_RETRY_AFTER_S,
    )


class Exchange(Protocol):
    """A request at Triton: an HTTP connection, or a gRPC call."""

    def fail(self, error: Exception) -> None:
        """End it. Raise `error` in the task that waits for the response."""
        ...


class _Running:
    """Registers an exchange as waiting for a model."""

    __slots__ = ("_exchange", "_model", "_running")

    def __init__(self, running: dict[str, set[Exchange]], model: str, exchange: Exchange) -> None:
        self._running, self._model, self._exchange = running, model, exchange

    def __enter__(self) -> None:
        self._running.setdefault(self._model, set()).add(self._exchange)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        exchanges = self._running[self._model]
        exchanges.discard(self._exchange)
        if not exchanges:
            del self._running[self._model]


class ModelProcesses:
    """The state of each model's stub process."""

    def __init__(self) -> None:
        # Called with the model whose stub process died or is back.
        self.on_change: Callable[[str], None] = lambda _: None
        self._dead: dict[str, _Death] = {}
        # The last statistics of working models, and the time since which these show no execution.
        self._counts: dict[str, tuple[Counts, float]] = {}
        # When their `num_unexecuted` last grew.
        self._unexecuted_at: dict[str, float] = {}
        self._running: dict[str, set[Exchange]] = {}
        # By model: the model that it sends its requests to. If that one dies, they get no response either.
        self._called: dict[str, str] = {}
        # Models that Triton has reported as ready.
        self._met: set[str] = set()
        # Those of them that had requests since the last check.
        self._used: set[str] = set()

    def calls(self, model: str, called: str | None) -> None:
        """The model sends its requests to `called`, or to no other model."""
        if called is None:
            self._called.pop(model, None)
        else:
            self._called[model] = called

    def running(self, model: str, exchange: Exchange) -> AbstractContextManager[None]:
        """While this is entered, the model's death ends the exchange."""
        # Clients can invent names, so only models that have a slot count. Requests of the frontend itself have no slot.
        if model in self._met and current_slot.get() is not None:
            self._used.add(model)
        return _Running(self._running, model, exchange)

    def answered(self, model: str) -> None:
        """A request to this model succeeded. If Triton still reports it as not ready, another instance served it."""
        if self._dead and (known := self._dead.get(model)) is not None and not known.is_admitted:
            self._revive(model)

    def to_look_at(self) -> set[str]:
        """The models whose state may have changed since the last call."""
        used, self._used = self._used, set()
        models = used | self._dead.keys() | self._running.keys()
        return models | {self._called[model] for model in models & self._called.keys()}

    def is_dead(self, model: str) -> bool:
        return model in self._dead

    def died(self, model: str, counts: Counts | None = None, *, is_admitted: bool = False) -> None:
        """The stub process is dead: end the exchanges that wait for it."""
        known = self._dead.get(model)
        if known is not None:
            known.is_admitted = known.is_admitted or is_admitted
            return
        logger.error(
            "model %s: its process has died; unload and load the model, or restart Triton",
            model,
        )
        self._dead[model] = _Death(counts, is_admitted)
        self._forget_counts(model)
        callers = [caller for caller, called in self._called.items() if called == model]
        for exchange in [each for name in (model, *callers) for each in self._running.get(name, ())]:
            exchange.fail(death(model))
        self.on_change(model)

    def unready(self, model: str) -> None:
        """Triton reports the model as not ready. When it reports it as ready again, there is a new stub process."""
        self._forget_counts(model)
        self._met.discard(model)
        if model in self._dead:
            self._dead[model].is_admitted = True

    def ready(self, model: str) -> bool:
        """Triton reports the model as ready. This is significant only if it was reported as not ready before.

        Returns whether the model's statistics have to be read, because none are known.
        """
        if model in self._dead and self._dead[model].is_admitted:
            self._revive(model)
        is_new = model not in self._met
        self._met.add(model)
        return is_new or model in self._dead

    def counted(self, model: str, counts: Counts, now: float) -> None:
        """Update from Triton's statistics, read at this time of the event loop's clock."""
        known = self._dead.get(model)
        if known is None:
            before, since = self._counts.get(model, (None, now))
            has_run = before is None or counts.has_run_since(before)
            self._counts[model] = (counts, now if has_run else since)
            if before is None or counts.num_unexecuted < before.num_unexecuted:
                self._unexecuted_at.pop(model, None)
            elif counts.num_unexecuted > before.num_unexecuted:
                self._unexecuted_at[model] = now
        elif known.counts is not None and counts.has_run_since(known.counts):
            self._revive(model)
        else:
            known.counts = counts

    def counts(self, model: str) -> Counts | None:
        """The last statistics of a working model."""
        counts, _ = self._counts.get(model, (None, 0.0))
        return counts

    def has_run_since(self, model: str, then: float) -> bool:
        """Whether the model may have executed a request since that time."""
        counts, since = self._counts.get(model, (None, 0.0))
        return counts is None or since > then

    def has_failed_unexecuted_since(self, model: str, then: float) -> bool:
        """Whether `num_unexecuted` has grown since that time."""
        return self._unexecuted_at.get(model, -math.inf) >= then

    def forget(self) -> None:
        """Triton is gone. When it is back, all stub processes are new."""
        self._dead.clear()
        self._counts.clear()
        self._unexecuted_at.clear()
        self._met.clear()

    def triton_ended(self) -> None:
        """The process of Triton itself ended. Notify the registry, which polls at once."""
        self.forget()
        self.on_change("")

    def _forget_counts(self, model: str) -> None:
        self._counts.pop(model, None)
        self._unexecuted_at.pop(model, None)

    def _revive(self, model: str) -> None:
        del self._dead[model]
        self._met.discard(model)
        self._used.add(model)  # read its statistics again
        logger.info("model %s: its process is running again", model)
        self.on_change(model)
