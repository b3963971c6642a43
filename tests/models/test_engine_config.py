# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from diffusion_engine.config import EngineConfig
from drawings import CHECKPOINT, VERSION_FOLDER


def read(parameters: dict[str, str] | None = None, **environ: str) -> EngineConfig:
    return EngineConfig.read(parameters or {}, environ, version_folder=VERSION_FOLDER)


def test_the_demo_checkpoint_beside_the_model_is_the_default() -> None:
    config = read()
    assert config.checkpoint == str(CHECKPOINT)
    assert (config.controlnet, config.vae, config.device, config.dtype) == ("", "", "auto", "auto")


def test_an_environment_variable_wins_over_the_model_config() -> None:
    parameters = {"checkpoint": "demo_checkpoint", "dtype": "float32", "max_pixels": "100"}
    config = read(parameters, SDXL_CHECKPOINT="some/model", SDXL_DTYPE="fp16", SDXL_MAX_PIXELS="5_000")
    assert (config.checkpoint, config.dtype, config.max_pixels) == ("some/model", "float16", 5000)


def test_an_empty_environment_variable_changes_nothing() -> None:
    assert read({"checkpoint": "some/model"}, SDXL_CHECKPOINT="").checkpoint == "some/model"


def test_a_folder_anywhere_and_a_hub_name_are_taken(tmp_path: Path) -> None:
    config = read({"checkpoint": str(tmp_path), "controlnet": "xinsir/controlnet-scribble-sdxl-1.0"})
    assert (config.checkpoint, config.controlnet) == (str(tmp_path), "xinsir/controlnet-scribble-sdxl-1.0")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./missing", "no_such_folder", "a/b/c"])
def test_a_missing_folder_is_said_when_the_model_loads(name: str) -> None:
    with pytest.raises(ValueError, match="neither a folder"):
        read({"checkpoint": name})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"dtype": "int8"}, "dtype must be"), ({"max_pixels": "many"}, "whole number"), ({"max_waiting": "0"}, "at least")],
)
def test_a_wrong_setting_is_said_when_the_model_loads(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(parameters)
