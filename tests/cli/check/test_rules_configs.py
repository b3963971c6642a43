# SPDX-License-Identifier: Apache-2.0
"""Each rule for a model's folder finds its broken folders, and finds nothing in similar ones that are fine."""

from pathlib import Path

import broken_configs
import broken_python_models
import pytest
import test_agrees_with_triton
from model_folders import Folder

from fastapi_triton.cli.check import repository, runner
from fastapi_triton.cli.check.rule import Rule

RULES: dict[str, Rule[repository.ModelFolder]] = {
    rule.code: rule for rule in (*runner.CONFIG_RULES, *runner.RULES["Python models"])
}
CASES = {**broken_configs.CASES, **broken_python_models.CASES}
BROKEN = [(code, folder, words) for code, (broken, _) in CASES.items() for folder, words in broken]
FINE = [(code, folder) for code, (_, fine) in CASES.items() for folder in fine]


def read(folder: Folder, tmp_path: Path) -> repository.ModelFolder:
    version = tmp_path / folder.name / folder.version
    version.mkdir(parents=True)
    if folder.config is not None:
        (tmp_path / folder.name / "config.pbtxt").write_text(folder.config)
    if folder.model_py is not None:
        (version / "model.py").write_text(folder.model_py)
    for name, content in folder.files.items():
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        (version / name).write_text(content)
    (model,) = repository.read(tmp_path)
    return model


def test_every_rule_has_broken_and_fine_cases() -> None:
    in_triton = {case.code for case in test_agrees_with_triton.CASES}
    assert set(RULES) == set(CASES) | (set(RULES) & in_triton)
    assert all(broken and fine for broken, fine in CASES.values())


@pytest.mark.parametrize(("code", "folder", "words"), BROKEN)
def test_a_rule_finds_a_broken_folder(code: str, folder: Folder, words: str, tmp_path: Path) -> None:
    found = RULES[code].findings(read(folder, tmp_path), "m")
    assert found
    assert words in found[0].detail
    assert (found[0].code, found[0].where, found[0].advice) == (code, "m", RULES[code].advice)


@pytest.mark.parametrize(("code", "folder"), FINE)
def test_a_rule_finds_nothing_in_a_fine_folder(code: str, folder: Folder, tmp_path: Path) -> None:
    assert RULES[code].findings(read(folder, tmp_path), "m") == []
