# SPDX-License-Identifier: Apache-2.0
"""The models that have a generated endpoint, kept up to date from the model registry."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from fastapi_triton.core.errors import FastAPITritonError, ModelNotReadyError, NotFoundError, shown
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints.generated import sequences
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.triton import model_health
from fastapi_triton.triton.client import ModelStatus, TritonClient
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_registry import Model, ModelRegistry

logger = logging.getLogger(__name__)

# The length at which Triton's reason why it cannot load a model is cut.
_MAX_REASON = 200
# Triton's state and reason for a model that was unloaded on request. A model that failed to load has another reason.
_UNLOADED = ("UNAVAILABLE", "unloaded")


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in Triton's repositories: its versions as Triton lists them, and its endpoint.

    `endpoint` is None while the model is not ready, or if its config cannot be read; then `reason` and `code` are those
    of the error.
    """

    name: str
    statuses: tuple[ModelStatus, ...]
    versions: list[str]
    endpoint: GeneratedModel | None = None
    reason: str = ""
    code: str = ModelNotReadyError.default_code

    @property
    def is_served(self) -> bool:
        """Whether it has an endpoint that takes requests."""
        return self.endpoint is not None and not self.endpoint.obstacles

    @property
    def is_dead(self) -> bool:
        """Whether Triton has loaded it, but its process has died."""
        return self.code == model_health.CODE

    @property
    def is_unloaded(self) -> bool:
        """Whether it was unloaded on request."""
        return all((status.state, status.reason) == _UNLOADED for status in self.statuses)


class GeneratedModels:
    """The generated endpoints, by model. Calls `on_change` when one was added, removed or changed."""

    def __init__(self, registry: ModelRegistry, triton: TritonClient, *, on_change: Callable[[], None]) -> None:
        self._registry = registry
        self._triton = triton
        self._on_change = on_change
        self._entries: dict[str, Entry] = {}
        registry.subscribe(self._update)

    @property
    def entries(self) -> list[Entry]:
        """Every model, by name."""
        return list(self._entries.values())

    @property
    def configs(self) -> list[ModelConfig]:
        """The config of every model that has an endpoint, without the inputs that it leaves out."""
        return [entry.endpoint.config for entry in self.entries if entry.endpoint is not None and entry.is_served]

    def require_read(self) -> None:
        """Raise the error of the registry, if it could not read Triton's models."""
        if self._registry.failure is not None:
            raise self._registry.failure.with_traceback(None)  # each raise would make its traceback longer

    def entry(self, name: str) -> Entry:
        """One model.

        Raises:
            NotFoundError: Triton has no model of that name.
            TritonUnavailableError: Triton has never been reached.
        """
        found = self._entries.get(name)
        if found is not None:
            return found
        if not self._registry.is_read:
            self.require_read()
        suggestion = nearest(name[:100], self._entries)
        hint = suggestion if suggestion.endswith("?") else "."
        raise NotFoundError(f"Triton has no model `{shown(name)}`{hint} GET /models lists all models.")

    def endpoint(self, name: str, version: str = "") -> GeneratedModel:
        """The endpoint of a model.

        Raises:
            NotFoundError: there is no such model or version, or the model cannot have an endpoint; the error says why.
            ModelNotReadyError: Triton has not loaded it.
            TritonUnavailableError: Triton has never been reached.
        """
        entry = self.entry(name)
        if entry.endpoint is None:
            raise ModelNotReadyError(
                f"The model {name} is not ready. GET /models/{name} shows the reason.",
                code=entry.code,
                retry_after_s=1.0,
            )
        if version and version not in entry.versions:
            known = ", ".join(entry.versions)
            raise NotFoundError(
                f"The model {name} has no version {shown(version)} that is ready. Ready versions: {known}."
            )
        if entry.endpoint.obstacles:
            reasons = "; ".join(entry.endpoint.obstacles)
            raise NotFoundError(f"The model {name} has no endpoint: {reasons}.", code="no_endpoint")
        return entry.endpoint

    async def confirm(self, name: str) -> None:
        """Read a model's config again if that is due. `endpoint` raises the error if it cannot be read."""
        entry = self._entries.get(name)
        if entry is not None and entry.endpoint is not None:
            with suppress(FastAPITritonError):
                await self._registry.config(name)

    def doubt(self, name: str) -> None:
        """Read the model's config again before the next request, because it may have changed."""
        self._registry.doubt(name)

    def _update(self) -> None:
        """Update the entries from the registry."""
        before = {name: entry.endpoint for name, entry in self._entries.items() if entry.is_served}
        entries = {model.name: self._entry(model) for model in self._registry.models}
        self._entries = {name: entry for name, entry in entries.items() if entry is not None}
        after = {name: entry.endpoint for name, entry in self._entries.items() if entry.is_served}
        if before == after:
            return
        for name in sorted(before.keys() - after.keys()):
            logger.info("model %s: POST /models/%s/infer is removed", name, name)
        for name in sorted(name for name in after if after[name] is not before.get(name)):
            logger.info("model %s: POST /models/%s/infer is available", name, name)
        self._on_change()

    def _entry(self, model: Model) -> Entry | None:
        known = self._entries.get(model.name)
        if model.versions and not model.is_checked:
            return known
        if not model.versions:
            return Entry(model.name, model.statuses, [], reason=_why_not_ready(model.statuses))
        if model.config is None or model.is_dead:
            error = model.error or ModelNotReadyError("Its config has not been read yet.")
            if known is None or known.reason != error.detail:
                logger.warning("model %s has no endpoint: %s", model.name, error.detail)
            return Entry(model.name, model.statuses, model.versions, reason=error.detail, code=error.code)
        endpoint = known.endpoint if known is not None else None
        config = replace(model.config, sequences=sequences.of_ensemble(model.config, self._config))
        if endpoint is None or endpoint.full_config != config:
            unstreamable = self._triton.unstreamable(config)
            endpoint = GeneratedModel(config, unstreamable, keeps_sequences=self._triton.keeps_sequences)
            for problem in (*endpoint.obstacles, *config.useless_hints):
                logger.warning("model %s: %s", model.name, problem)
        return Entry(model.name, model.statuses, model.versions, endpoint)

    def _config(self, name: str) -> ModelConfig | None:
        model = self._registry.model(name)
        return None if model is None else model.config


def first_line(reason: str) -> str:
    """The beginning of Triton's reason why it cannot load a model; the rest, often a traceback, is in its log."""
    return next(iter(reason.splitlines()), "")[:_MAX_REASON]


def _why_not_ready(statuses: tuple[ModelStatus, ...]) -> str:
    reasons = [": ".join(filter(None, (status.state.lower(), first_line(status.reason)))) for status in statuses]
    return "; ".join(filter(None, reasons)) or "Triton has not loaded it"
