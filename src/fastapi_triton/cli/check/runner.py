# SPDX-License-Identifier: Apache-2.0
"""All rules at once: over a model repository, an app's declarations and settings, and a running Triton."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.cli.check import (
    probe,
    repository,
    rules_configs,
    rules_declarations,
    rules_deployment,
    rules_python_models,
    rules_server,
    rules_waivers,
)
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import Finding, Rule
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints.declared.declaration import Declaration
from fastapi_triton.triton.model_config import ModelConfig

# The `where` of findings about Triton itself, and about the frontend's settings.
TRITON, SETTINGS = "Triton", "settings"

# Every rule there is, by what it looks at.
RULES: Mapping[str, Sequence[Rule[Any]]] = {
    "The model repository": rules_configs.RULES.all,
    "Python models": rules_python_models.RULES.all,
    "The app's endpoints": rules_declarations.RULES.all,
    "The frontend's settings": [*rules_deployment.SETTINGS_RULES.all, *rules_deployment.RULES.all],
    "A running Triton (`--triton URL`)": rules_server.RULES.all,
    "Its models (`--triton URL`)": rules_server.MODEL_RULES.all,
    "Waivers": rules_waivers.RULES.all,
}
CODES = frozenset(rule.code for rules in RULES.values() for rule in rules)


@dataclass(frozen=True, slots=True)
class Subject:
    """What to look at; each part may be absent."""

    models: Path | None = None
    app: TritonFrontend | None = None
    triton: str | None = None
    has_trial: bool = False

    @property
    def settings(self) -> Settings:
        return self.app.settings if self.app else Settings()

    @property
    def declarations(self) -> list[Declaration]:
        return [each.declaration for each in self.app.endpoints] if self.app else []


async def check(subject: Subject) -> list[Finding]:
    """What every rule finds, and what is waived of it.

    Raises:
        TritonUnavailableError: no Triton answers at its URL.
    """
    folders = repository.read(subject.models) if subject.models else []
    known: dict[str, ModelConfig | None] = {each.name: each.config for each in folders}
    reasons = {each.name: each.waivers for each in folders}
    looked_for = {each.name: _looked_for(each) for each in folders}
    findings = rules_deployment.SETTINGS_RULES.findings(subject.settings, SETTINGS)
    for folder in folders:
        findings += _of_folder(folder, subject.settings)
    if subject.triton:
        asked = {*known, *(name for each in subject.declarations for name in each.models)}
        facts, served = await probe.look(
            subject.triton, asked, texts=known, settings=subject.settings, has_trial=subject.has_trial
        )
        findings += rules_server.RULES.findings(facts, TRITON)
        for model in served:
            findings += rules_server.MODEL_RULES.findings(model, model.name)
            looked_for[model.name] = looked_for.get(model.name, frozenset()) | _asked_about(model)
            if model.raw is not None:
                known[model.name] = model.config  # what runs is what callers meet
                reasons.setdefault(model.name, repository.waivers(model.raw))
    if subject.models or subject.triton:
        for declaration in subject.declarations:
            findings += rules_declarations.RULES.findings(
                rules_declarations.Declared(declaration, known), declaration.path
            )
    return _waived(findings, reasons, looked_for)


def _of_folder(folder: ModelFolder, settings: Settings) -> list[Finding]:
    return [
        *rules_configs.RULES.findings(folder, folder.name),
        *rules_python_models.RULES.findings(folder, folder.name),
        *rules_deployment.RULES.findings(rules_deployment.ModelBehind(folder.settings, settings), folder.name),
    ]


def _looked_for(folder: ModelFolder) -> frozenset[str]:
    """The rules that were tried on a folder's files. Of Python files that cannot be read nothing else is known."""
    rules: list[Rule[Any]] = [*rules_configs.RULES.all, *rules_deployment.RULES.all]
    rules += [
        each for each in rules_python_models.RULES.all if folder.modules or each.code == rules_python_models.UNREADABLE
    ]
    return frozenset(rule.code for rule in rules)


def _asked_about(model: rules_server.ServedModel) -> frozenset[str]:
    """The rules that were tried on a model of the running Triton; some need its reply to a trial."""
    rules = [
        rule.code for rule in rules_server.MODEL_RULES.all if model.trial or rule.find not in rules_server.NEED_TRIAL
    ]
    return frozenset(rules)


def _waived(
    findings: Sequence[Finding], reasons: Mapping[str, dict[str, str]], looked_for: Mapping[str, frozenset[str]]
) -> list[Finding]:
    """The findings with the reasons of their models, and what is wrong with the reasons themselves."""
    result = [replace(each, waived=reasons.get(each.where, {}).get(each.code) or None) for each in findings]
    for model, waived in reasons.items():
        found = frozenset(each.code for each in findings if each.where == model)
        subject = rules_waivers.Waivers(waived, found, looked_for.get(model, frozenset()), CODES)
        result += rules_waivers.RULES.findings(subject, model)
    return result
