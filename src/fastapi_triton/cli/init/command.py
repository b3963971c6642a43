# SPDX-License-Identifier: Apache-2.0
"""The command `fastapi-triton init`."""

import asyncio
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fastapi_triton.cli.check import repository
from fastapi_triton.cli.errors import fail, invalid_settings, triton_url
from fastapi_triton.cli.init import app_source
from fastapi_triton.core import bundle
from fastapi_triton.core.errors import ContractError, FastAPITritonError, ModelNotReadyError
from fastapi_triton.core.settings import Settings
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.triton import config_text
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.credentials import Access

# The configs of the models that can be read, and the others, each with the reason.
Found = tuple[list[ModelConfig], list[tuple[str, str]]]


def init(
    folder: Annotated[
        Path, typer.Argument(help="The folder of the app: a new one, or with --from-… any without main.py.")
    ],
    from_triton: Annotated[
        str | None,
        typer.Option(
            "--from-triton", metavar="URL", callback=triton_url, help="Write endpoints for the models of this Triton."
        ),
    ] = None,
    from_repository: Annotated[
        Path | None,
        typer.Option("--from-repository", metavar="FOLDER", help="Write endpoints for the models of this repository."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Only this model. Repeat for several.")
    ] = None,
) -> None:
    """Write a `main.py` to edit: the scribble app with its models, or endpoints for models that exist."""
    if from_triton is not None and from_repository is not None:
        fail("Use either --from-triton or --from-repository.")
    try:
        if from_triton is not None:
            address = str(Address.of(from_triton))  # without a password
            try:
                found = asyncio.run(_of_triton(from_triton))
            except FastAPITritonError as error:
                fail(f"The models of {address} cannot be read. {error}")
            option = f"--triton {shlex.quote(address)}"
            _write_endpoints(folder, found, models or [], options=option, check=option)
        elif from_repository is not None:
            found = _of_repository(from_repository)
            path = shlex.quote(str(from_repository.resolve()))
            _write_endpoints(folder, found, models or [], options=f"--embedded --models {path}", check=path)
        elif models:
            fail("--model needs --from-triton or --from-repository.")
        else:
            _write_scribble_app(folder)
    except config_text.ConfigTextError as error:
        fail(str(error))
    except ValidationError as error:  # of the settings
        fail(invalid_settings(error))


def _write_scribble_app(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(f"{folder} is there already, and not empty. Choose another name.")
    _make(folder)
    shutil.copy(bundle.app_folder() / "main.py", folder / "main.py")
    shutil.copytree(bundle.model_repository(), folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bundle.examples() / "house.png", folder / "scribble.png")
    shutil.copy(Path(__file__).with_name("new_app_readme.md"), folder / "README.md")
    typer.echo(f"Wrote {folder}: main.py (your endpoints), models/ (your Triton models), scribble.png, README.md.")
    typer.echo(f"Start it: cd {folder} && fastapi-triton serve --embedded")


def _write_endpoints(folder: Path, found: Found, wanted: list[str], *, options: str, check: str) -> None:
    """Write main.py for the wanted models, by default all. `options` are those of `serve`, `check` those of `check`."""
    configs, left_out = found
    names = [config.name for config in configs] + [name for name, _ in left_out]
    for name in wanted:
        if name not in names:
            fail(f"There is no model {name}{nearest(name, names)}")
    if not names:
        fail("There are no models.")
    main = folder / "main.py"
    if main.exists() or (folder.exists() and not folder.is_dir()):
        fail(f"{main if main.exists() else folder} is there already. Choose another folder, or move the file.")
    _make(folder)
    main.write_text(
        app_source.source(
            [config for config in configs if not wanted or config.name in wanted],
            [each for each in left_out if not wanted or each[0] in wanted],
        )
    )
    typer.echo(f"Wrote {main}. Edit it.")
    here = shlex.quote(str(folder))
    typer.echo(f"Compare it with the models: cd {here} && fastapi-triton check main:app {check}")
    typer.echo(f"Start it: cd {here} && fastapi-triton serve {options}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"The folder {folder} cannot be made ({error.strerror or error}). Choose another one.")


async def _of_triton(url: str) -> Found:
    """The models that this Triton has loaded."""
    configs: dict[str, ModelConfig] = {}
    left_out: dict[str, str] = {}
    async with HTTPTriton(url, access=Access.of(Settings())) as client:
        for name in sorted({status.name for status in await client.index()}):
            try:
                configs[name] = await client.config(name)
            except ModelNotReadyError:
                left_out[name] = "Triton has not loaded it"
            except ContractError as error:
                left_out[name] = error.detail.removesuffix(".")
    return list(configs.values()), list(left_out.items())


def _of_repository(folder: Path) -> Found:
    """The models whose config.pbtxt can be read and is complete."""
    if not folder.is_dir():
        fail(f"There is no model repository at {folder}.")
    configs: list[ModelConfig] = []
    left_out: list[tuple[str, str]] = []
    for each in repository.read(folder):
        config = each.config
        if config is not None and config.inputs and config.outputs:
            configs.append(config)
        else:
            reason = (
                "its config.pbtxt cannot be read" if each.error else "its config.pbtxt does not declare all tensors"
            )
            left_out.append((each.name, reason))
    return configs, left_out
