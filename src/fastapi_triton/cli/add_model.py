# SPDX-License-Identifier: Apache-2.0
"""The command `fastapi-triton add-model`: a picture model with another checkpoint."""

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from fastapi_triton.cli.errors import fail

_SINGLE_FILE = ".safetensors"
# Triton starts Python models by a shell line with their name.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CONFIG = "config.pbtxt"


def add_model(
    name: Annotated[str, typer.Argument(help="The name of the new model, as in /v1/models.")],
    checkpoint: Annotated[
        str,
        typer.Option(
            help="A folder in diffusers' format, a .safetensors file, or a name on the Hugging Face hub. "
            "A name without a folder: beside the new model.py."
        ),
    ],
    controlnet: Annotated[
        str | None, typer.Option(help="The ControlNet, if the checkpoint has none; for SDXL, a scribble ControlNet.")
    ] = None,
    models: Annotated[Path, typer.Option(help="The model repository.")] = Path("models"),
) -> None:
    """Add a model with another checkpoint: copies of the repository's picture model and its engine, without weights."""
    if _NAME.fullmatch(name) is None:
        fail(f"The name is {name!r}; use letters, digits, `-`, `_` and `.`.")
    source, engine = _pair(models)
    targets = models / name, models / f"{name}_stream"
    for target in targets:
        if target.exists():
            fail(f"{target} is there already. Choose another name.")
    parameters = {"checkpoint": _located(checkpoint), "env_prefix": re.sub(r"\W", "_", name).upper() + "_"}
    if controlnet is not None:
        parameters["controlnet"] = _located(controlnet)
    config = _changed((models / engine / _CONFIG).read_text("utf-8"), targets[1].name, parameters)
    if checkpoint.endswith(_SINGLE_FILE) and not _parameter(config, "controlnet"):
        fail(
            "A checkpoint in one file has no ControlNet. Name one with --controlnet; for SDXL, "
            "xinsir/controlnet-scribble-sdxl-1.0."
        )
    for folder, target in zip((source, engine), targets, strict=True):
        shutil.copytree(models / folder, target, ignore=_no_weights)
    (targets[1] / _CONFIG).write_text(config, "utf-8")
    public = (targets[0] / _CONFIG).read_text("utf-8")
    (targets[0] / _CONFIG).write_text(_changed(public, name, {"stream_model": targets[1].name}), "utf-8")
    typer.echo(f"Wrote {targets[0]} and {targets[1]}. The second one's {_CONFIG} has all parameters of the engine.")
    beside = max(targets[1].glob("[0-9]*")) / checkpoint
    if "/" not in checkpoint and not Path(parameters["checkpoint"]).is_absolute():
        typer.echo(f"Copy the checkpoint to {beside}.")
    typer.echo("Triton loads the model when it is started again. `fastapi-triton check` checks its config.")


def _pair(models: Path) -> tuple[str, str]:
    """The folders of the first model with a stream model, and of the stream model."""
    if not models.is_dir():
        fail(f"There is no model repository at {models}.")
    configs = sorted(models.glob(f"*/{_CONFIG}"))
    engines = {path.parent.name: _parameter(path.read_text("utf-8", "replace"), "stream_model") for path in configs}
    pairs = [(name, engine) for name, engine in engines.items() if engine in engines]
    if not pairs:
        fail(f"{models} has no picture model to copy: `fastapi-triton init` writes one.")
    return pairs[0]


def _located(name: str) -> str:
    """An absolute path if it is a file or folder here; else the name, for Triton's machine or the hub."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _no_weights(folder: str, names: list[str]) -> set[str]:
    """What is not copied: caches, and everything beside model.py but modules and packages."""
    inside = Path(folder)
    if not inside.name.isdecimal():
        return {"__pycache__"} & set(names)
    return {name for name in names if not name.endswith(".py") and not (inside / name / "__init__.py").is_file()}


def _parameter(config: str, key: str) -> str:
    found = _pattern(key).search(config)
    return found[1] if found else ""


def _changed(config: str, name: str, parameters: dict[str, str]) -> str:
    """The text of a config with another name and other parameters. Its comments are kept."""
    config = re.sub(r'^name:\s*"[^"]*"', f'name: "{name}"', config, count=1, flags=re.MULTILINE)
    for key, value in parameters.items():
        text = value.replace("\\", "\\\\").replace('"', '\\"')
        line = f'parameters {{ key: "{key}" value {{ string_value: "{text}" }} }}'
        found = _pattern(key).search(config)
        config = config[: found.start()] + line + config[found.end() :] if found else f"{config}\n{line}\n"
    return config


def _pattern(key: str) -> re.Pattern[str]:
    parameter = rf'parameters\s*\{{\s*key:\s*"{key}"\s*value\s*\{{\s*string_value:\s*"([^"]*)"\s*\}}\s*\}}'
    return re.compile(f"^{parameter}", re.MULTILINE)
