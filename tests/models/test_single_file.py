# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in one `.safetensors` file, compared with the same checkpoint in diffusers' format."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from diffusion_engine import single_file
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.networks import Networks
from diffusion_engine.weights import load_pipeline, revision_of
from drawings import CHECKPOINT
from listening import Driver
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from support import original_layout

SERVING = {"defaults": {"width": 64, "height": 64, "num_inference_steps": 3}, "sizes": [[64, 64]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`folder/` in diffusers' format, `one.safetensors` with the same weights, and their ControlNet."""
    root = tmp_path_factory.mktemp("checkpoints")
    pipeline = original_layout.small_pipeline()
    pipeline.save_pretrained(root / "folder")
    original_layout.write_file(pipeline, root / "one.safetensors")
    shutil.copytree(root / "folder" / "controlnet", root / "controlnet")
    (root / "serving.json").write_text(json.dumps(SERVING))
    return root


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def config_of(folder: Path, **changes: str) -> EngineConfig:
    config = EngineConfig(
        checkpoint=str(folder / "one.safetensors"),
        controlnet=str(folder / "controlnet"),
        config=str(folder / "folder"),
        device="cpu",
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def weights_of(pipeline: Any) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": weight
        for part, network in pipeline.components.items()
        if isinstance(network, torch.nn.Module)
        for name, weight in network.state_dict().items()
    }


def test_one_file_gives_the_weights_and_the_pictures_of_the_folder(
    folder: Path, make_driver: Callable[..., Driver]
) -> None:
    pictures, revisions = [], []
    for checkpoint in (folder / "one.safetensors", folder / "folder"):
        pipeline = load_pipeline(config_of(folder, checkpoint=str(checkpoint)))
        revisions.append(revision_of(pipeline))
        capabilities = Capabilities.of_checkpoint(str(folder / "one.safetensors"))
        driver = make_driver(networks=Networks.of_pipeline(pipeline), capabilities=capabilities)
        submitted = driver.join(prompt=b"a red house", negative_prompt=b"a car", guidance_scale=4.0)
        driver.finish()
        pictures.append(submitted.pixels())
    assert revisions[0] == revisions[1]
    assert pictures[0].std() > 1  # not one colour
    np.testing.assert_array_equal(*pictures)


def test_networks_in_one_file_each_replace_the_checkpoints(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "one.safetensors")
    unet = {name: each + 1 for name, each in weights.items() if name.startswith("model.diffusion_model.")}
    vae = {
        name.removeprefix("first_stage_model."): each
        for name, each in weights.items()
        if name.startswith("first_stage")
    }
    save_file(unet, tmp_path / "unet.safetensors")
    save_file(vae, tmp_path / "vae.safetensors")
    controlnet = folder / "controlnet" / "diffusion_pytorch_model.safetensors"  # in diffusers' layout
    parts = {"unet": "unet.safetensors", "vae": "vae.safetensors"}
    config = config_of(
        folder, controlnet=str(controlnet), **{name: str(tmp_path / file) for name, file in parts.items()}
    )
    found = weights_of(load_pipeline(config))
    expected = weights_of(load_pipeline(config_of(folder)))
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name] + name.startswith("unet."), rtol=0, atol=0)


def test_file_without_all_weights_is_rejected(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "one.safetensors")
    for start, missing in (("conditioner.embedders.1.", "text_encoder_2"), ("first_stage_model.", "vae")):
        save_file(
            {name: each for name, each in weights.items() if not name.startswith(start)}, tmp_path / "some.safetensors"
        )
        with pytest.raises(ValueError, match=rf"not an SDXL checkpoint: it has no weights of {missing} \("):
            load_pipeline(config_of(folder, checkpoint=str(tmp_path / "some.safetensors")))
    layer = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    save_file({name: each for name, each in weights.items() if name != layer}, tmp_path / "some.safetensors")
    with pytest.raises(ValueError, match=r"lacks weights, or has another architecture.*set the parameter config"):
        load_pipeline(config_of(folder, checkpoint=str(tmp_path / "some.safetensors")))


def test_inpainting_checkpoint_is_rejected(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "one.safetensors")
    weights[single_file.FIRST_LAYER] = torch.zeros(32, 9, 3, 3)
    save_file(weights, tmp_path / "inpaint.safetensors")
    with pytest.raises(ValueError, match="is for inpainting: its UNet takes 9 channels"):
        load_pipeline(config_of(folder, checkpoint=str(tmp_path / "inpaint.safetensors")))


@pytest.mark.parametrize(
    ("part", "layer"), [("unet", "time_embedding.cond_proj.weight"), ("controlnet", "task_embedding")]
)
def test_network_of_another_kind_is_rejected(folder: Path, tmp_path: Path, part: str, layer: str) -> None:
    """Such as a UNet for latent consistency, or a ControlNet for several tasks: their other layers count."""
    weights = load_file(folder / "folder" / part / "diffusion_pytorch_model.safetensors")
    file = tmp_path / "network.safetensors"
    save_file({**weights, layer: torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="lacks weights, or has another architecture than its config"):
        load_pipeline(config_of(folder, **{part: str(file)}))
    save_file(weights, file)
    load_pipeline(config_of(folder, **{part: str(file)}))


def test_damaged_file_is_rejected(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes((folder / "one.safetensors").read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"half.safetensors is not a complete .safetensors file"):
        load_pipeline(config_of(folder, checkpoint=str(tmp_path / "half.safetensors")))


def test_file_of_another_architecture_is_rejected(folder: Path) -> None:
    """This small one is not SDXL's, whose configs and vocabulary are the defaults."""
    shutil.copytree(CHECKPOINT / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="has another architecture than its config"):
        load_pipeline(config_of(folder, config=""))


def test_file_needs_a_controlnet(folder: Path) -> None:
    with pytest.raises(ValueError, match="SDXL_CONTROLNET"):
        load_pipeline(config_of(folder, controlnet=""))


def test_checkpoint_that_predicts_the_velocity_is_served_so(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "velocity.safetensors"
    save_file({**load_file(folder / "one.safetensors"), "v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, file)
    config = load_pipeline(config_of(folder, checkpoint=str(file))).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
    assert load_pipeline(config_of(folder)).scheduler.config.prediction_type == "epsilon"


def test_tokenizers_are_those_beside_the_file(tmp_path: Path) -> None:
    """Without the parameter `config`: the engine has SDXL's configs, and the vocabulary is beside the file."""
    content = json.loads((CHECKPOINT / "tokenizer" / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps(content["vocab"]))
    (tmp_path / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, content["merges"])]))
    tokenizers = single_file.load_tokenizers(tmp_path / "one.safetensors")
    expected = CLIPTokenizer.from_pretrained(CHECKPOINT / "tokenizer")("a house, (blue)").input_ids
    ids = {name: tokenizer("a house, (blue)").input_ids for name, tokenizer in tokenizers.items()}
    assert ids == {"tokenizer": expected, "tokenizer_2": expected}
    assert {name: tokenizer.pad_token for name, tokenizer in tokenizers.items()} == single_file.PAD_TOKENS
    assert {tokenizer.model_max_length for tokenizer in tokenizers.values()} == {77}


def test_missing_vocabulary_names_the_files_and_their_place(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"Copy vocab.json and merges.txt .* to {tmp_path}/tokenizer, or set .*config"
    ):
        single_file.load_tokenizers(tmp_path / "one.safetensors")


def test_vocabulary_in_the_hubs_cache_is_used_without_a_request(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "models--stabilityai--stable-diffusion-xl-base-1.0"
    snapshot = cache / "snapshots" / "0123" / "tokenizer"
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123")
    for name in single_file.VOCABULARY_FILES:
        (snapshot / name).touch()
    assert single_file.vocabulary_folder(tmp_path / "one.safetensors") == snapshot


def test_configs_of_sdxl_are_complete() -> None:
    """diffusers reads them as it reads those of the hub."""
    with torch.device("meta"):
        for of_class, name in single_file.SUBFOLDERS.items():
            of_class.from_config(of_class.load_config(single_file.SDXL_CONFIG, subfolder=name))
    assert ControlNetModel.load_config(single_file.SDXL_CONFIG, subfolder="controlnet")["cross_attention_dim"] == 2048


def test_configs_of_sdxl_fit_its_original_layout() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(single_file.SDXL_CONFIG, subfolder="unet")
        )
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(single_file.SDXL_CONFIG, subfolder="vae"))
    original = {f"model.diffusion_model.{name}": each for name, each in original_layout.unet_weights(unet).items()}
    # Names in sd_xl_base_1.0.safetensors, whose UNet has 1680 tensors.
    assert len(original) == 1680
    assert "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight" in original
    assert "model.diffusion_model.label_emb.0.2.bias" in original
    converted = single_file_utils.convert_ldm_unet_checkpoint(original, dict(unet.config))
    assert {name: each.shape for name, each in converted.items()} == {
        name: each.shape for name, each in unet.state_dict().items()
    }
    original = {f"first_stage_model.{name}": each for name, each in original_layout.vae_weights(vae).items()}
    converted = single_file_utils.convert_ldm_vae_checkpoint(original, dict(vae.config))
    assert converted.keys() == vae.state_dict().keys()


@pytest.mark.parametrize("name", ["one.serving.json", "serving.json"])
def test_serving_json_beside_the_file_gives_its_capabilities(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps(SERVING))
    capabilities = Capabilities.of_checkpoint(str(tmp_path / "one.safetensors"))
    assert (capabilities.name, capabilities.sizes) == ("one", ((64, 64),))
    (tmp_path / "one.serving.json").write_text(json.dumps({**SERVING, "name": "Fine", "sizes": [[64, 64], [32, 32]]}))
    capabilities = Capabilities.of_checkpoint(str(tmp_path / "one.safetensors"))
    assert (capabilities.name, len(capabilities.sizes)) == ("Fine", 2)


def test_file_without_serving_json_has_the_capabilities_of_sdxl_and_its_own_name() -> None:
    capabilities = Capabilities.of_checkpoint("owner/model/juggernaut_xl.safetensors")
    assert (capabilities.name, capabilities.defaults.width) == ("juggernaut_xl", 1024)


def test_file_on_the_hub_is_fetched_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(single_file, "hf_hub_download", download)
    assert single_file.local_file("owner/model/folder/one.safetensors") == tmp_path / "folder/one.safetensors"
    assert asked == [("owner/model", "folder/one.safetensors")]


def test_file_is_found_beside_the_model_or_anywhere(tmp_path: Path) -> None:
    (tmp_path / "juggernaut.safetensors").touch()
    for name, folder in (("juggernaut.safetensors", tmp_path), (str(tmp_path / "juggernaut.safetensors"), Path("/"))):
        config = EngineConfig.read({"checkpoint": name}, {}, version_folder=folder)
        assert config.checkpoint == str(tmp_path / "juggernaut.safetensors")
    config = EngineConfig.read({"checkpoint": "owner/model/one.safetensors"}, {}, version_folder=tmp_path)
    assert config.checkpoint == "owner/model/one.safetensors"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"checkpoint": "missing.safetensors"}, "is neither a file, alone or in"),
        ({"checkpoint": "folder/missing.safetensors"}, "nor a hub name such as owner/model/file.safetensors"),
        ({"vae": "/missing.safetensors"}, "is neither a file"),
        ({"checkpoint": "one.ckpt"}, "is a pickle, which can run code; convert it to .safetensors"),
        ({"config": "one.safetensors"}, "is a file; set the folder or hub name"),
    ],
)
def test_name_of_no_file_fails_when_the_model_loads(tmp_path: Path, parameters: dict[str, str], message: str) -> None:
    (tmp_path / "demo_checkpoint").mkdir()
    with pytest.raises(ValueError, match=message):
        EngineConfig.read(parameters, {}, version_folder=tmp_path)
