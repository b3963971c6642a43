# SPDX-License-Identifier: Apache-2.0
"""Which models Triton has, and an endpoint for each; one background task asks, so that no request has to."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.errors import (
    ContractError,
    FastAPITritonError,
    InferenceError,
    ModelNotReadyError,
    NotFoundError,
    TritonUnavailableError,
    shown,
)
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.triton import model_health
from fastapi_triton.triton.client import ModelStatus, TritonClient
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.transport.circuit_breaker import AWAY_INTERVAL_S

logger = logging.getLogger(__name__)

# Configs that are asked for at once.
MAX_FETCHES = 8
# Configs of models that were there before which one poll looks at again: a reload may change one unseen.
MAX_REFRESHES = 16
# Triton's index can take seconds where a repository is large or far away; it is asked at most a tenth of the time.
_REST = 9.0

# Characters of what Triton says of a model that it cannot load.
_MAX_REASON = 200

READY = "READY"
# What Triton says of a model that it was told to unload; one that it could not load has another reason.
_UNLOADED = ("UNAVAILABLE", "unloaded")


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in Triton's repositories: its versions as Triton tells of them, and its endpoint.

    `endpoint` is None while the model is not ready, or where its config cannot be had; `reason` says why, and `code` to
    programs.
    """

    name: str
    statuses: tuple[ModelStatus, ...]
    endpoint: GeneratedModel | None = None
    reason: str = ""
    fetched_at: int = 0  # the number of the poll that last looked at its config
    code: str = ModelNotReadyError.default_code

    @property
    def is_served(self) -> bool:
        """Whether requests to its endpoint are taken."""
        return self.endpoint is not None and not self.endpoint.obstacles

    @property
    def is_dead(self) -> bool:
        """Whether Triton has it loaded, but its process has died."""
        return self.code == model_health.CODE

    @property
    def is_unloaded(self) -> bool:
        """Whether somebody had Triton unload it."""
        return all((status.state, status.reason) == _UNLOADED for status in self.statuses)

    @property
    def versions(self) -> list[str]:
        """Those that are ready."""
        return [status.version for status in self.statuses if status.state == READY]


class Catalogue:
    """The models of one Triton, by name. `on_change` is called when an endpoint came, went or changed."""

    def __init__(self, triton: TritonClient, *, watch_interval_s: float, on_change: Callable[[], None]) -> None:
        self._triton = triton
        self._watch_interval_s = watch_interval_s
        self._on_change = on_change
        self._entries: dict[str, Entry] = {}
        self._num_polls = 0
        self._stale: set[str] = set()
        self._failure: FastAPITritonError = TritonUnavailableError(
            "Triton has not yet been asked for its models. Try again.", retry_after_s=1.0
        )
        self._is_read = False
        self._has_failed = True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep it true to Triton for as long as this lasts."""
        task = BackgroundTask("model list", consequence="New, removed and changed models may go unnoticed.")
        async with task.repeating(self._poll_once):
            yield

    @property
    def entries(self) -> list[Entry]:
        """Every model, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    @property
    def configs(self) -> list[ModelConfig]:
        """Of every model that has an endpoint."""
        return [entry.endpoint.config for entry in self.entries if entry.endpoint is not None and entry.is_served]

    def require_read(self) -> None:
        """Raise why Triton's models are not known, if so."""
        if self._has_failed:
            raise self._failure.with_traceback(None)  # one that is raised again and again grows

    def entry(self, name: str) -> Entry:
        """One model.

        Raises:
            NotFoundError: Triton has none of that name.
            TritonUnavailableError: Triton has never been reached.
        """
        found = self._entries.get(name)
        if found is not None:
            return found
        if not self._is_read:
            raise self._failure.with_traceback(None)
        close = nearest(name[:100], self._entries)
        hint = close if close.endswith("?") else "."
        raise NotFoundError(f"Triton has no model `{shown(name)}`{hint} GET /models lists them all.")

    def endpoint(self, name: str, version: str = "") -> GeneratedModel:
        """The endpoint of a model.

        Raises:
            NotFoundError: there is no such model or version, or it cannot have an endpoint; the reason is told.
            ModelNotReadyError: Triton has not loaded it.
            TritonUnavailableError: Triton has never been reached.
        """
        entry = self.entry(name)
        if entry.endpoint is None:
            raise ModelNotReadyError(
                f"The model {name} is not ready; GET /models/{name} says why.", code=entry.code, retry_after_s=1.0
            )
        if version and version not in entry.versions:
            known = ", ".join(entry.versions)
            raise NotFoundError(f"The model {name} has no version {shown(version)} that is ready; ready are: {known}.")
        if entry.endpoint.obstacles:
            reasons = "; ".join(entry.endpoint.obstacles)
            raise NotFoundError(f"The model {name} has no endpoint: {reasons}.", code="no_endpoint")
        return entry.endpoint

    def forget(self, name: str) -> None:
        """Something about this model looked changed: have its config read again at the next poll."""
        self._stale.add(name)

    async def poll(self) -> None:
        """Ask Triton once.

        Raises:
            FastAPITritonError: there is no answer; everything stays as it was.
        """
        index = await self._triton.index()
        self._num_polls += 1
        found: dict[str, list[ModelStatus]] = {}
        for status in index:
            found.setdefault(status.name, []).append(status)
        before = {name: self._entries.get(name) for name in found}
        due = self._due({name: tuple(statuses) for name, statuses in found.items()})
        limit = asyncio.Semaphore(MAX_FETCHES)

        async def read(name: str) -> Entry:
            statuses = tuple(found[name])
            if all(status.state != READY for status in statuses):
                return Entry(name, statuses, reason=_why_not_ready(statuses))
            known = before[name]
            if name not in due and known is not None:
                return known
            async with limit:
                return await self._fetch(name, statuses, known)

        entries = await asyncio.gather(*(read(name) for name in found))
        self._replace({entry.name: entry for entry in entries})

    def _due(self, found: dict[str, tuple[ModelStatus, ...]]) -> set[str]:
        """Whose config to read: the new, the changed, those that looked changed, and some of the others in turn.

        All of them where Triton was away: what comes back may be another.
        """
        if self._has_failed:
            self._stale.clear()
            return set(found)
        known = [name for name in found if name in self._entries]
        unchanged = [
            name for name in known if self._entries[name].endpoint and self._entries[name].statuses == found[name]
        ]
        oldest = sorted(unchanged, key=lambda name: self._entries[name].fetched_at)[:MAX_REFRESHES]
        stale, self._stale = self._stale, set()
        return (found.keys() - set(unchanged)) | set(oldest) | (stale & found.keys())

    async def _fetch(self, name: str, statuses: tuple[ModelStatus, ...], known: Entry | None) -> Entry:
        endpoint, reason, code = known.endpoint if known else None, "", ModelNotReadyError.default_code
        try:
            await self._triton.ready(name)  # the index calls a model ready whose process has died
            config = await self._triton.config(name)
        except (ContractError, InferenceError, ModelNotReadyError) as error:  # all others concern Triton as a whole
            endpoint, reason, code = None, error.detail, error.code
            if known is None or known.reason != reason:
                logger.warning("model %s has no endpoint: %s", name, reason)
        else:
            if endpoint is None or endpoint.config != config:
                endpoint = GeneratedModel(config)
                for problem in (*endpoint.obstacles, *config.useless_hints):
                    logger.warning("model %s: %s", name, problem)
        return Entry(name, statuses, endpoint, reason, self._num_polls, code)

    def _replace(self, entries: dict[str, Entry]) -> None:
        before = {name: entry.endpoint for name, entry in self._entries.items() if entry.is_served}
        after = {name: entry.endpoint for name, entry in entries.items() if entry.is_served}
        self._entries = entries
        self._is_read, self._has_failed = True, False
        if before == after:
            return
        for name in sorted(before.keys() - after.keys()):
            logger.info("model %s: its endpoint is gone", name)
        for name in sorted(name for name in after if after[name] is not before.get(name)):
            logger.info("model %s: POST /models/%s/infer", name, name)
        self._on_change()

    async def _poll_once(self) -> float:
        """Poll, and return the pause until the next poll in seconds."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        pause_s = self._watch_interval_s
        try:
            await self.poll()
            pause_s = max(pause_s, _REST * (loop.time() - started))
        except FastAPITritonError as error:
            if not self._has_failed:
                logger.warning("Triton's list of models cannot be read: %s", error.detail)
            if isinstance(error, TritonUnavailableError):
                pause_s = min(pause_s, AWAY_INTERVAL_S)
            self._failure, self._has_failed = error, True
        return pause_s


def first_line(reason: str) -> str:
    """Enough of what Triton says of a model that it cannot load; the rest, often a traceback, is in its log."""
    return next(iter(reason.splitlines()), "")[:_MAX_REASON]


def _why_not_ready(statuses: tuple[ModelStatus, ...]) -> str:
    told = [": ".join(filter(None, (status.state.lower(), first_line(status.reason)))) for status in statuses]
    return "; ".join(filter(None, told)) or "Triton has not loaded it"
