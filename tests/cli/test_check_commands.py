# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check` and `fastapi-triton openapi`: arguments, output and exit status."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fastapi_triton.cli.check import runner
from fastapi_triton.cli.main import app
from support.paths import ROOT
from support.serving import free_port

GOOD = """
backend: "python" max_batch_size: 8
input { name: "text" data_type: TYPE_STRING dims: 1 }
output { name: "score" data_type: TYPE_FP32 dims: 1 }
dynamic_batching { default_queue_policy { max_queue_size: 64 } }
"""
MODEL_PY = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("score", score(each))]) for each in requests]
"""
MAIN = """
from pydantic import BaseModel
from fastapi_triton import TritonFrontend

app = TritonFrontend(title="moods")

class Text(BaseModel):
    text: str

class Mood(BaseModel):
    score: float

app.infer("/mood", model="mood", request=Text, response=Mood)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an app and a model that match."""
    (tmp_path / "models" / "mood" / "1").mkdir(parents=True)
    (tmp_path / "models" / "mood" / "config.pbtxt").write_text(GOOD)
    (tmp_path / "models" / "mood" / "1" / "model.py").write_text(MODEL_PY)
    (tmp_path / "main.py").write_text(MAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    kept = sys.modules.pop("main", None)
    yield tmp_path
    sys.modules.pop("main", None)
    if kept is not None:
        sys.modules["main"] = kept


def run(*arguments: str, columns: int = 200) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns), "TERM": "dumb"})


def report(*arguments: str) -> dict[str, Any]:
    result = run("check", "--json", *arguments)
    result_json: dict[str, Any] = json.loads(result.output)
    assert result.exit_code == (1 if result_json["problems"] else 0)
    return result_json


def config_of(folder: Path, text: str) -> None:
    (folder / "models" / "mood" / "config.pbtxt").write_text(text)


def test_a_clean_app_exits_with_0(folder: Path) -> None:
    for no_model in (".git", "__pycache__"):
        (folder / "models" / no_model).mkdir()
    result = run("check")
    assert (result.exit_code, result.output) == (0, "Nothing found.\n")


def test_a_declaration_that_does_not_match_is_reported_with_all_reasons(folder: Path) -> None:
    config_of(folder, GOOD.replace('"text"', '"texts"').replace("FP32", "INT32"))
    result = run("check", "main:app", "models/")
    assert result.exit_code == 1
    assert "/mood" in result.output
    for words in (
        "contract-mismatch",
        "`Text.text`: the model mood has no input of that name; did you mean `texts`?",
        "the model's input `texts` is required, but Text has no such field",
        "`Mood.score` is declared as float, but the tensor is TYPE_INT32",
        "3 errors",
    ):
        assert words in result.output


def test_the_output_in_the_guide_is_what_the_command_prints(folder: Path) -> None:
    policy = "max_queue_size: 64 allow_timeout_override: true"
    config_of(folder, GOOD.replace('"text"', '"texts"').replace("max_queue_size: 64", policy))
    output = run("check", "main:app", "models/", columns=100).output
    guide = (ROOT / "docs" / "check.md").read_text()
    assert "".join(f"{line.rstrip()}\n" for line in output.splitlines()) in guide


def test_a_warning_fails_only_the_strict_check(folder: Path) -> None:
    config_of(folder, GOOD.replace("max_queue_size: 64", ""))
    result_json = report()
    assert result_json["problems"] == 0
    (finding,) = result_json["findings"]
    assert finding == {
        "code": "unbounded-queue",
        "severity": "warning",
        "where": "mood",
        "detail": "dynamic_batching has no max_queue_size",
        "advice": next(
            rule.advice for rules in runner.RULES.values() for rule in rules if rule.code == finding["code"]
        ),
        "waived": None,
    }
    assert report("--strict") == {"problems": 1, "findings": [finding]}
    assert run("check").output.endswith("\nno errors, 1 warning\n")


def test_a_note_fails_no_check(folder: Path) -> None:
    config_of(folder, GOOD + "response_cache { enable: true }")
    result_json = report("--strict")
    assert [each["severity"] for each in result_json["findings"]] == ["note"]
    assert result_json["problems"] == 0


def test_a_minimal_model_is_fine(folder: Path) -> None:
    config_of(folder, GOOD.partition("dynamic_batching")[0])
    assert report()["problems"] == 0


def waiver(code: str, reason: str) -> str:
    return f'parameters {{ key: "waive.{code}" value {{ string_value: "{reason}" }} }}'


def test_a_waiver_with_a_reason_counts_and_its_reason_is_printed(folder: Path) -> None:
    config_of(folder, GOOD.replace("max_queue_size: 64", "") + waiver("unbounded-queue", "few clients"))
    result = run("check", "--strict")
    assert result.exit_code == 0
    assert "waived" in result.output
    assert "few clients" in result.output


def test_a_waiver_without_a_reason_does_not_count(folder: Path) -> None:
    config_of(folder, GOOD.replace("max_queue_size: 64", "") + waiver("unbounded-queue", " "))
    assert {each["code"] for each in report()["findings"]} == {"unbounded-queue", "waiver-without-reason"}


def test_unused_and_unknown_waivers_are_reported(folder: Path) -> None:
    config_of(folder, GOOD + waiver("unbounded-queue", "once") + waiver("unbonded-queue", "typo"))
    found = {each["code"]: each for each in report()["findings"]}
    assert set(found) == {"waiver-unused", "waiver-unknown"}
    assert "did you mean `unbounded-queue`?" in found["waiver-unknown"]["detail"]


def test_the_scribble_app_and_its_models_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result_json = report("main:app", "models", "--strict")
    assert result_json["problems"] == 0
    assert all(each["waived"] for each in result_json["findings"])
    assert len(result_json["findings"]) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope:app"], "There is no module nope"),
        (["main:nope"], "no FastAPI app named nope"),
        (["modelz/"], "There is no model repository at modelz/"),
        (["main:app", "other:app"], "Name at most one app and one model repository"),
        (["--trial"], "--trial needs a running Triton"),
        (["--triton", "http://t:port"], "Triton's URL is invalid: write it as http://host:port"),
        (["--triton", "http://127.0.0.1:{port}"], "No Triton responds at http://127.0.0.1:{port}"),
    ],
)
def test_invalid_arguments_exit_with_2_and_a_reason(folder: Path, arguments: list[str], words: str) -> None:
    port = free_port()
    result = run("check", *(each.format(port=port) for each in arguments))
    assert result.exit_code == 2
    assert words.format(port=port) in result.output
    assert "Traceback" not in result.output


def test_invalid_settings_exit_with_2_and_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_TRITON_MAX_IN_FLIGHT", "0")
    result = run("check")
    assert result.exit_code == 2
    assert result.output.startswith('FASTAPI_TRITON_MAX_IN_FLIGHT is "0"; it must be above 0.')


def test_a_model_whose_name_is_not_utf_8_has_no_endpoint(folder: Path) -> None:
    (folder / "models" / "mood").rename(folder / "models" / "mood\udcff")
    (found,) = [each for each in report("models")["findings"] if each["where"] == "mood\udcff"]
    assert (found["code"], found["severity"]) == ("unreadable-config", "error")
    assert "the name of its folder is not UTF-8" in found["detail"]
    openapi = run("openapi", "models")
    assert openapi.exit_code == 0
    assert not [path for path in json.loads(openapi.output)["paths"] if path.startswith("/models/")]
    assert run("init", "app", "--from-repository", "models").exit_code == 0
    assert '# "mood\\udcff": its config.pbtxt cannot be read.' in (folder / "app" / "main.py").read_text()


def test_an_empty_folder_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("check")
    assert result.exit_code == 2
    assert "There is nothing to check" in result.output


def test_an_app_without_a_model_repository_exits_with_2(folder: Path) -> None:
    (folder / "models").rename(folder / "elsewhere")
    assert run("check").exit_code == 2
    assert run("check", "elsewhere").exit_code == 0


def test_a_folder_that_cannot_be_read_exits_with_2(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(folder: Path) -> tuple[int, ...]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("fastapi_triton.cli.check.versions.find", find)
    result = run("check")
    assert (result.exit_code, result.output) == (2, "models/mood cannot be read: Permission denied\n")


@pytest.mark.parametrize("command", ["check", "openapi"])
def test_without_the_extra_the_command_prints_how_to_install_it(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    result = run(command)
    assert result.exit_code == 2
    assert "pip install 'fastapi-triton[check]'" in result.output


def test_openapi_writes_the_document_without_a_server(folder: Path) -> None:
    result = run("openapi", "models/")
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert document["info"]["title"] == "moods"
    assert {"/mood", "/models/mood/infer"} <= set(document["paths"])  # declared; generated from the config
    assert run("openapi", "main:app", "--output", "openapi.json").exit_code == 0
    assert json.loads((folder / "openapi.json").read_text()) == document


def test_every_rule_has_a_unique_code_a_reason_and_advice() -> None:
    rules = [rule for rules in runner.RULES.values() for rule in rules]
    assert len(runner.CODES) == len(rules) > 30
    for rule in rules:
        assert rule.reason.endswith(".")
        assert rule.advice.endswith(".")
        assert rule.code == rule.code.lower().replace("_", "-").replace(" ", "-")
