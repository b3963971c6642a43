# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton add-model`: copies of the picture model and its engine, with another checkpoint."""

import asyncio
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import main
from fastapi_triton.cli.check import runner
from fastapi_triton.cli.main import app
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.testing import read_config
from support.paths import ROOT
from support.scribble_app import MODEL

CONTROLNET = "xinsir/controlnet-scribble-sdxl-1.0"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The clone's model repository, as it is after its models were loaded."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    (tmp_path / "models" / f"{MODEL}_stream" / "1" / "__pycache__").mkdir(exist_ok=True)
    return tmp_path / "models"


def add(models: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["add-model", *arguments, "--models", str(models)])


def parameters(models: Path, name: str) -> dict[str, str]:
    return dict(read_config(models / name / "config.pbtxt").parameters)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_copies_have_the_code_and_the_tensors_but_no_weights(models: Path) -> None:
    done = add(models, "juggernaut", "--checkpoint", "juggernaut.safetensors", "--controlnet", CONTROLNET)
    assert done.exit_code == 0, done.output
    assert "Copy the checkpoint to" in done.output
    original, copy = files(models / f"{MODEL}_stream"), files(models / "juggernaut_stream")
    assert {each for each in original - copy if "demo_checkpoint" not in each and "__pycache__" not in each} == set()
    assert not any("demo_checkpoint" in each or "__pycache__" in each for each in copy)
    assert "1/diffusion_engine/sdxl_config/unet/config.json" in copy
    public, stream = (read_config(models / name / "config.pbtxt") for name in ("juggernaut", "juggernaut_stream"))
    assert (public.name, public.called_model, stream.name) == ("juggernaut", stream.name, "juggernaut_stream")
    assert contract.mismatches(main.ScribbleRequest, main.ScribbleResponse, public, stream) == []


def test_parameters_name_the_checkpoint(models: Path) -> None:
    before = parameters(models, f"{MODEL}_stream")
    add(models, "turbo-xl", "--checkpoint", "stabilityai/sdxl-turbo", "--controlnet", CONTROLNET)
    changes = {"checkpoint": "stabilityai/sdxl-turbo", "controlnet": CONTROLNET, "env_prefix": "TURBO_XL_"}
    assert parameters(models, "turbo-xl_stream") == before | changes


def test_local_path_becomes_absolute(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "Copy" not in add(models, "mine", "--checkpoint", "mine").output
    assert parameters(models, "mine_stream")["checkpoint"] == str(tmp_path / "mine")


def test_check_finds_the_missing_file_and_nothing_else(models: Path) -> None:
    add(models, "juggernaut", "--checkpoint", "juggernaut.safetensors", "--controlnet", CONTROLNET)
    found = asyncio.run(runner.check(runner.Subject(models=models)))
    assert [(each.code, each.where) for each in found if each.waived is None] == [
        ("missing-checkpoint", "juggernaut_stream")
    ]
    (models / "juggernaut_stream" / "1" / "juggernaut.safetensors").touch()
    found = asyncio.run(runner.check(runner.Subject(models=models)))
    assert not [each.code for each in found if each.waived is None]


def test_repository_without_the_parameter_gets_it(models: Path) -> None:
    config = models / f"{MODEL}_stream" / "config.pbtxt"
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line for line in lines if "env_prefix" not in line))
    add(models, "second", "--checkpoint", "owner/model")
    assert parameters(models, "second_stream")["env_prefix"] == "SECOND_"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a b", "--checkpoint", "x/y"], "use letters, digits"),
        ([MODEL, "--checkpoint", "x/y"], "is there already"),
        (["one", "--checkpoint", "one.safetensors"], "A checkpoint in one file has no ControlNet"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(models: Path, arguments: list[str], words: str) -> None:
    before = files(models)
    done = add(models, *arguments)
    assert (done.exit_code, words in done.output) == (2, True), done.output
    assert files(models) == before


def test_repository_without_a_picture_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.pbtxt").write_bytes(b'name: "other\xff"')
    assert "has no picture model to copy" in add(tmp_path, "one", "--checkpoint", "x/y").output
    assert "There is no model repository" in add(tmp_path / "nowhere", "one", "--checkpoint", "x/y").output
