# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from diffusion_engine.config import EngineConfig
from drawings import CHECKPOINT, VERSION_FOLDER


def read(parameters: dict[str, str] | None = None, **environ: str) -> EngineConfig:
    return EngineConfig.read(parameters or {}, environ, version_folder=VERSION_FOLDER)


def test_default_is_the_demo_checkpoint_beside_the_model() -> None:
    config = read()
    assert config.checkpoint == str(CHECKPOINT)
    assert (config.controlnet, config.vae, config.device, config.dtype) == ("", "", "auto", "auto")


def test_environment_variable_overrides_the_model_config() -> None:
    parameters = {"checkpoint": "demo_checkpoint", "dtype": "float32", "max_pixels": "100"}
    config = read(parameters, SDXL_CHECKPOINT="some/model", SDXL_DTYPE="fp16", SDXL_MAX_PIXELS="5_000")
    assert (config.checkpoint, config.dtype, config.max_pixels) == ("some/model", "float16", 5000)


def test_model_may_have_its_own_environment_variables() -> None:
    config = read({"env_prefix": "JUGGERNAUT_"}, SDXL_CHECKPOINT="some/model", JUGGERNAUT_DTYPE="fp16")
    assert (config.checkpoint, config.dtype) == (str(CHECKPOINT), "float16")


def test_rows_are_measured_unless_a_number_is_set() -> None:
    assert read().max_rows is read({"max_rows": "auto"}).max_rows is None
    assert read({"max_rows": "6"}).max_rows == 6


def test_options_for_gpus_are_off_by_default() -> None:
    assert (read().is_compiled, read().is_channels_last, read().defaults) == (False, None, {})
    config = read(SDXL_COMPILE="yes", SDXL_CHANNELS_LAST="no", SDXL_DEFAULTS='{"num_inference_steps": 4}')
    assert (config.is_compiled, config.is_channels_last) == (True, False)
    assert config.defaults == {"num_inference_steps": 4}


def test_memory_options_are_chosen_by_the_engine_unless_set() -> None:
    assert (read().vae_dtype, read().vae_tiling, read().offload) == ("auto", None, "auto")
    config = read(SDXL_VAE_DTYPE="bf16", SDXL_VAE_TILING="no", SDXL_OFFLOAD="model")
    assert (config.vae_dtype, config.vae_tiling, config.offload) == ("bfloat16", False, "model")


def test_policy_is_first_come_by_default() -> None:
    assert read().policy == "first_come"
    assert read(SDXL_POLICY="shortest_remaining").policy == "shortest_remaining"


def test_empty_environment_variable_changes_nothing() -> None:
    assert read({"checkpoint": "some/model"}, SDXL_CHECKPOINT="").checkpoint == "some/model"


def test_checkpoint_can_be_any_folder_or_a_hub_name(tmp_path: Path) -> None:
    config = read({"checkpoint": str(tmp_path), "controlnet": "xinsir/controlnet-scribble-sdxl-1.0"})
    assert (config.checkpoint, config.controlnet) == (str(tmp_path), "xinsir/controlnet-scribble-sdxl-1.0")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./missing", "no_such_folder", "a/b/c"])
def test_missing_folder_fails_when_the_model_loads(name: str) -> None:
    with pytest.raises(ValueError, match="neither a folder"):
        read({"checkpoint": name})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"offload": "yes"}, "offload is 'yes'; it must be auto, none or model"),
        ({"vae_dtype": "int8"}, "vae_dtype is 'int8'; it must be one of auto"),
        ({"dtype": "int8"}, "dtype is 'int8'; it must be one of auto"),
        ({"max_pixels": "many"}, "max_pixels is 'many'; it must be a whole number"),
        ({"max_requests": "0"}, "max_requests is 0; it must be at least 1"),
        ({"max_rows": "few"}, "max_rows is 'few'; it must be a whole number"),
        ({"defaults": "4 steps"}, "it must be a JSON object"),
        ({"defaults": "[4]"}, "it must be a JSON object"),
        ({"channels_last": "maybe"}, "channels_last is 'maybe'; it must be yes, no or auto"),
        ({"compile": "true"}, "compile is 'true'; it must be yes, no or auto"),
        ({"policy": "loudest_first"}, "policy is 'loudest_first'; it must be one of first_come, shortest_remaining"),
    ],
)
def test_invalid_parameter_fails_when_the_model_loads(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(parameters)


@pytest.mark.usefixtures("without_home_folder")
def test_checkpoint_in_a_missing_home_folder_fails_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'~/checkpoint' needs a home folder.*set an absolute path"):
        EngineConfig.read({"checkpoint": "~/checkpoint"}, {}, version_folder=tmp_path)


def test_misspelled_variables_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    read(SDXL_LORA="styles", SDXL_DTYPE="float32", SDXL_OTHER_PROGRAM="1", LORA="x")
    assert [each.getMessage() for each in caplog.records] == [
        "SDXL_LORA is ignored: there is no parameter lora (did you mean loras?)"
    ]
