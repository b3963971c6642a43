# SPDX-License-Identifier: Apache-2.0
"""Loads SDXL, or one of its networks, from a `.safetensors` file. Their configs come with the engine.

Such files hold the weights in SDXL's original layout, without the networks' configs and the tokenizers' vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionXLControlNetPipeline, UNet2DConditionModel
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import CLIPTokenizer

from diffusion_engine.capabilities import SINGLE_FILE

# SDXL's networks in diffusers' format: configs without weights.
SDXL_CONFIG = Path(__file__).parent / "sdxl_config"
SUBFOLDERS = {UNet2DConditionModel: "unet", AutoencoderKL: "vae", ControlNetModel: "controlnet"}
# Where the vocabulary is fetched if it is not beside the file, and its two files.
VOCABULARY = "stabilityai/stable-diffusion-xl-base-1.0"
VOCABULARY_FILES = ("vocab.json", "merges.txt")
# SDXL's tokenizers have the same vocabulary; only their padding differs.
PAD_TOKENS = {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"}
PROMPT_TOKENS = 77
# The start of the weights' names in the file, by the parameter that names a replacement; text encoders have none.
WEIGHTS = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"


def is_single_file(source: str) -> bool:
    """Whether a checkpoint or a part is one file, not a folder or the name of one on the hub."""
    return source.endswith(SINGLE_FILE)


def load_single_file(source: str, config: str, dtype: torch.dtype, **parts: Any) -> Any:
    """Load the pipeline from a file, with parts from elsewhere, among them the ControlNet.

    Args:
        config: a folder or hub name in diffusers' format, for the configs and tokenizers; empty: those of SDXL.

    Raises:
        ValueError: the file is not an SDXL checkpoint, or the tokenizers' vocabulary is missing.
    """
    file = local_file(source)
    names = weight_names(file)
    require_sdxl(file, names, parts)
    tokenizers = {} if config else load_tokenizers(file)
    with explained(file):
        pipeline = StableDiffusionXLControlNetPipeline.from_single_file(
            str(file), config=config_folder(config), dtype=dtype, add_watermarker=False, **tokenizers, **parts
        )
    if "v_pred" in names:  # an empty tensor, which marks checkpoints that predict the velocity
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr="ztsnr" in names
        )
    return pipeline


def load_single_part(of_class: Any, source: str, config: str, dtype: torch.dtype) -> Any:
    """Load one network from a file, in SDXL's original layout or diffusers' own.

    Raises:
        ValueError: the file is not for this network.
    """
    file, name = local_file(source), SUBFOLDERS[of_class]
    folder = config_folder(config)
    if not (Path(folder) / name).is_dir():
        folder = str(SDXL_CONFIG)
    with explained(file):
        network = of_class.from_single_file(str(file), config=folder, subfolder=name, dtype=dtype)
        require_no_others(weight_names(file), network)
    return network


def local_file(source: str) -> Path:
    """The file's path; a file on the hub, owner/repository/path, is fetched unless it is cached."""
    if Path(source).is_file():
        return Path(source)
    owner, repository, name = source.split("/", 2)
    return Path(hf_hub_download(f"{owner}/{repository}", name))


def config_folder(config: str) -> str:
    if not config:
        return str(SDXL_CONFIG)
    if Path(config).is_dir():
        return config
    return str(snapshot_download(config, allow_patterns=["*.json", "*.txt"], ignore_patterns=["*.index.json"]))


def weight_names(file: Path) -> frozenset[str]:
    """The names of all tensors. Raises `ValueError` if the file is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            return frozenset(opened.keys())
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete {SINGLE_FILE} file: {error}") from error


def require_sdxl(file: Path, names: frozenset[str], parts: dict[str, Any]) -> None:
    """Raise `ValueError` if a network of SDXL is missing, or the UNet is one for inpainting."""
    missing = [
        f"{part} ({start}…)"
        for part, start in WEIGHTS.items()
        if part not in parts and not any(name.startswith(start) for name in names)
    ]
    if missing:
        raise ValueError(
            f"{file} is not an SDXL checkpoint: it has no weights of {', '.join(missing)}. The parameters unet, vae "
            "and controlnet take files with only one of these networks"
        )
    if FIRST_LAYER not in names:
        return
    with safe_open(file, framework="pt") as opened:
        num_channels = opened.get_slice(FIRST_LAYER).get_shape()[1]
    if num_channels != 4:
        raise ValueError(f"{file} is for inpainting: its UNet takes {num_channels} channels, and the engine gives 4")


def load_tokenizers(file: Path) -> dict[str, Any]:
    folder = vocabulary_folder(file)
    return {
        name: CLIPTokenizer.from_pretrained(
            folder, pad_token=pad_token, model_max_length=PROMPT_TOKENS, local_files_only=True
        )
        for name, pad_token in PAD_TOKENS.items()
    }


def vocabulary_folder(file: Path) -> Path:
    """The folder `tokenizer` beside the checkpoint; without it, the hub's, which is fetched only once."""
    beside = file.parent / "tokenizer"
    if beside.is_dir():
        return beside
    try:
        paths = [cached_file(VOCABULARY, f"tokenizer/{name}") for name in VOCABULARY_FILES]
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise ValueError(
            f"{file} has no tokenizers, and {VOCABULARY} cannot be reached. Copy {' and '.join(VOCABULARY_FILES)} from "
            f"its folder tokenizer to {beside}, or set the parameter config (SDXL_CONFIG) to a folder with SDXL in "
            "diffusers' format"
        ) from error
    return Path(paths[0]).parent


def cached_file(repository: str, name: str) -> str:
    """The path of a file on the hub. No request is sent if it is cached."""
    try:
        return str(hf_hub_download(repository, name, local_files_only=True))
    except LocalEntryNotFoundError:
        return str(hf_hub_download(repository, name))


def require_no_others(names: frozenset[str], network: torch.nn.Module) -> None:
    """Raise `ValueError` for weights in diffusers' layout that the network lacks: diffusers would ignore them."""
    known = network.state_dict().keys()
    if known <= names and (others := sorted(names - known)):
        raise ValueError(f"{type(network).__name__} has no {others[0]}")


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Raise `ValueError` if the networks cannot be made of the file's weights."""
    try:
        yield
    except (KeyError, NotImplementedError, ValueError) as error:  # an absent layer, or one of another shape
        raise ValueError(
            f"{file} lacks weights, or has another architecture than its config: {error}. If it is not the "
            "architecture of SDXL, set the parameter config (SDXL_CONFIG)"
        ) from error
