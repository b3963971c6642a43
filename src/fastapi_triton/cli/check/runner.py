# SPDX-License-Identifier: Apache-2.0
"""Runs all rules: on a model repository, an app's declarations and settings, and a running Triton."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.cli.check import (
    probe,
    repository,
    rules_advice,
    rules_backends,
    rules_batch_tensors,
    rules_checkpoints,
    rules_configs,
    rules_declarations,
    rules_deployment,
    rules_ensembles,
    rules_instances,
    rules_metrics,
    rules_model_class,
    rules_parameters,
    rules_python_models,
    rules_schedulers,
    rules_sequences,
    rules_server,
    rules_tensors,
    rules_text,
    rules_waivers,
    rules_warmup,
)
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import Finding, Rule
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints.declared.declaration import Declaration
from fastapi_triton.triton.model_config import ModelConfig

# The `where` of findings in Triton itself and in the frontend's settings.
TRITON, SETTINGS = "Triton", "settings"

# Rules for one model's config.
CONFIG_RULES: Sequence[Rule[ModelFolder]] = [
    rule
    for rules in (
        rules_text.RULES,
        rules_configs.RULES,
        rules_backends.RULES,
        rules_tensors.RULES,
        rules_batch_tensors.RULES,
        rules_schedulers.RULES,
        rules_sequences.RULES,
        rules_instances.RULES,
        rules_warmup.RULES,
        rules_metrics.RULES,
        rules_parameters.RULES,
        rules_checkpoints.RULES,
        rules_advice.RULES,
    )
    for rule in rules.all
]
# All rules, by subject.
RULES: Mapping[str, Sequence[Rule[Any]]] = {
    "The model repository": CONFIG_RULES,
    "Python models": [*rules_model_class.RULES.all, *rules_python_models.RULES.all],
    "Ensembles": rules_ensembles.RULES.all,
    "The app's endpoints": rules_declarations.RULES.all,
    "The frontend's settings": [*rules_deployment.SETTINGS_RULES.all, *rules_deployment.RULES.all],
    "A running Triton (`--triton`)": rules_server.RULES.all,
    "Its models (`--triton`)": rules_server.MODEL_RULES.all,
    "Waivers": rules_waivers.RULES.all,
}
CODES = frozenset(rule.code for rules in RULES.values() for rule in rules)


@dataclass(frozen=True, slots=True)
class Subject:
    """What to check. Each part is optional."""

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
    """Run all rules. Returns their findings, also those that are waived.

    Raises:
        TritonUnavailableError: no Triton responds at the URL.
    """
    folders = repository.read(subject.models) if subject.models else []
    known: dict[str, ModelConfig | None] = {each.name: each.config for each in folders}
    reasons = {each.name: each.waivers for each in folders}
    applied = {each.name: _applied_to_folder(each) for each in folders}
    findings = rules_deployment.SETTINGS_RULES.findings(subject.settings, SETTINGS)
    for folder in folders:
        findings += _of_folder(folder, subject.settings)
    findings += rules_ensembles.findings(folders, findings)
    if subject.triton:
        names = {*known, *(name for each in subject.declarations for name in each.models)}
        facts, served = await probe.read(
            subject.triton, names, texts=known, settings=subject.settings, has_trial=subject.has_trial
        )
        findings += rules_server.RULES.findings(facts, TRITON)
        for model in served:
            findings += rules_server.MODEL_RULES.findings(model, model.name)
            applied[model.name] = applied.get(model.name, frozenset()) | _applied_to_served(model)
            if model.raw is not None:
                known[model.name] = model.config  # the running config is the one that clients meet
                reasons.setdefault(model.name, repository.waivers(model.raw))
    if subject.models or subject.triton:
        for declaration in subject.declarations:
            findings += rules_declarations.RULES.findings(
                rules_declarations.Declared(declaration, known), declaration.path
            )
    return _waived(findings, reasons, applied)


def _of_folder(folder: ModelFolder, settings: Settings) -> list[Finding]:
    return [
        *(each for rule in CONFIG_RULES for each in rule.findings(folder, folder.name)),
        *rules_model_class.RULES.findings(folder, folder.name),
        *rules_python_models.RULES.findings(folder, folder.name),
        *rules_deployment.RULES.findings(rules_deployment.ModelWithSettings(folder.settings, settings), folder.name),
    ]


def _applied_to_folder(folder: ModelFolder) -> frozenset[str]:
    """The rules that were applied to a folder. Unreadable Python files leave out the rules for their content."""
    rules: list[Rule[Any]] = [*CONFIG_RULES, *rules_deployment.RULES.all, *rules_model_class.RULES.all]
    rules += rules_python_models.RULES.all if folder.modules else []
    rules += rules_ensembles.RULES.all if folder.is_ensemble else []
    return frozenset(rule.code for rule in rules)


def _applied_to_served(model: rules_server.ServedModel) -> frozenset[str]:
    """The rules that were applied to a served model; some need the response to a trial."""
    rules = [
        rule.code for rule in rules_server.MODEL_RULES.all if model.trial or rule.find not in rules_server.NEED_TRIAL
    ]
    return frozenset(rules)


def _waived(
    findings: Sequence[Finding], reasons: Mapping[str, dict[str, str]], applied: Mapping[str, frozenset[str]]
) -> list[Finding]:
    """The findings with the reasons of their waivers, plus the findings of the rules for waivers."""
    result = [replace(each, waived=reasons.get(each.where, {}).get(each.code) or None) for each in findings]
    for model, waived in reasons.items():
        found = frozenset(each.code for each in findings if each.where == model)
        subject = rules_waivers.Waivers(waived, found, applied.get(model, frozenset()), CODES)
        result += rules_waivers.RULES.findings(subject, model)
    return result
