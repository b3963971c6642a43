# SPDX-License-Identifier: Apache-2.0
"""Rules for ensembles beside the errors that Triton confirms: notes, waivers, and what is known of decoupled steps."""

from pathlib import Path

import pytest
from config_cases.case import PYTHON_MODEL, Case, inert, python
from config_cases.ensembles import DECOUPLED, ensemble, step, tensor

from fastapi_triton.cli.check import repository, runner
from fastapi_triton.cli.check.rule import Finding

COMPLETES = f"""
{PYTHON_MODEL}
    @staticmethod
    def auto_complete_config(config):
        return config
"""
WAIVED = 'parameters { key: "waive.%s" value { string_value: "because" } }'


async def findings(repository: Path, config: str, files: dict[str, str]) -> list[Finding]:
    """What `check` finds in the ensemble `m`."""
    Case("ensemble", config, files=files).write(repository)
    return [each for each in await runner.check(runner.Subject(repository)) if each.where == "m"]


@pytest.mark.parametrize(
    "model",
    [
        {"s/1/model.py": COMPLETES},
        {"s/config.pbtxt": python(tensors=f"input {tensor('x', '1')}"), "s/1/model.py": COMPLETES},
        {"s/config.pbtxt": python(), "s/1/model.py": COMPLETES},
        {"s/config.pbtxt": 'backend: "onnxruntime"', "s/1/model.onnx": ""},
    ],
    ids=["no config", "no outputs", "complete", "another backend"],
)
async def test_a_model_whose_config_triton_completes_is_a_note(model: dict[str, str], tmp_path: Path) -> None:
    found = await findings(tmp_path, ensemble(step(inputs="anything=x")), model)
    assert [(each.code, each.severity) for each in found] == [("ensemble-step-unknown", "note")]
    assert "`s`" in found[0].detail


async def test_a_python_model_that_adds_nothing_is_compared(tmp_path: Path) -> None:
    model = {"s/config.pbtxt": python(), "s/1/model.py": PYTHON_MODEL}
    found = await findings(tmp_path, ensemble(step(inputs="x=x anything=x")), model)
    assert [each.code for each in found] == ["ensemble-tensor-mismatch"]


async def test_a_waived_error_of_a_step_leaves_the_ensemble_without_error(tmp_path: Path) -> None:
    renamed = f'name: "other" {WAIVED % "name-mismatch"}'
    assert await findings(tmp_path, ensemble(), {"s/config.pbtxt": inert(renamed)}) == []


async def test_an_error_of_an_ensemble_can_be_waived(tmp_path: Path) -> None:
    config = ensemble(step("elsewhere"), more=WAIVED % "ensemble-step-unavailable")
    (found,) = await findings(tmp_path, config, {})
    assert (found.code, found.waived) == ("ensemble-step-unavailable", "because")


def test_an_ensemble_is_decoupled_if_one_of_its_steps_is(tmp_path: Path) -> None:
    files = {
        "s/config.pbtxt": ensemble(step("t")),
        "t/config.pbtxt": inert(DECOUPLED),
        "says_so/config.pbtxt": ensemble(step("u"), more=DECOUPLED),
        "u/config.pbtxt": inert(),
    }
    Case("decoupled", ensemble(), files=files).write(tmp_path)
    configs = [each.config for each in repository.read(tmp_path)]
    decoupled = {each.name: each.decoupled for each in configs if each}
    assert decoupled == {"m": True, "s": True, "t": True, "says_so": False, "u": False}
