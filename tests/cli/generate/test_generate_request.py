# SPDX-License-Identifier: Apache-2.0
"""The request that the options make, and the options that are rejected before any request is sent."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastapi_triton.cli.generate import request
from fastapi_triton.cli.generate.errors import GenerateError, UsageError
from fastapi_triton.cli.generate.outputs import Outputs
from fastapi_triton.cli.generate.request import GenerateRequest
from support.scribble_app import picture

Build = Callable[..., GenerateRequest]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds a request from options by name, in a folder with a scribble."""
    monkeypatch.chdir(tmp_path)
    Path("scribble.png").write_bytes(picture())

    def run(
        prompt: str | None = "a red house", scribble: str | None = "scribble.png", **options: Any
    ) -> GenerateRequest:
        defaults: dict[str, Any] = {
            "example": None, "from_picture": None, "fields": {}, "num": 1, "output": None, "picture_format": None,
            "is_forced": False,
        }  # fmt: skip
        return request.build(prompt=prompt, scribble=scribble, **(defaults | options))

    return run


def files(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names(built: GenerateRequest) -> list[str]:
    return [path.name for path in built.outputs.paths]


@pytest.mark.parametrize(
    ("options", "expected", "picture_format"),
    [
        ({"output": "house.webp"}, ["house.webp"], "webp"),
        ({"output": "house.JPG"}, ["house.JPG"], "jpeg"),
        ({"output": "house", "picture_format": "jpeg"}, ["house"], "jpeg"),
        ({"output": "house.webp", "num": 2}, ["house-1.webp", "house-2.webp"], "webp"),
        ({}, ["a-red-house.png"], "png"),
        ({"picture_format": "jpeg"}, ["a-red-house.jpg"], "jpeg"),
        ({"prompt": "../Häuser: 'rot'", "output": "."}, ["häuser-rot.png"], "png"),
        ({"prompt": "///"}, ["picture.png"], "png"),
        ({"prompt": "a house " * 100, "num": 2}, [f"{'a-house-' * 7}a-ho{end}" for end in (".png", "-2.png")], "png"),
    ],
)
def test_files_are_named_after_the_options(
    build: Build, options: dict[str, Any], expected: list[str], picture_format: str
) -> None:
    built = build(**options)
    assert names(built) == expected
    assert built.outputs.picture_format == built.fields_of(0)["output_format"] == picture_format


def test_a_default_file_name_is_unused(build: Build) -> None:
    Path("a-red-house.png").touch()
    Path("a-red-house-2.png").touch()
    assert names(build(num=2)) == ["a-red-house-3.png", "a-red-house-4.png"]


def test_an_existing_file_is_overwritten_only_with_force(build: Build) -> None:
    Path("house-2.png").write_text("mine")
    with pytest.raises(UsageError, match=r"house-2\.png already exists.*--force"):
        build(output="house.png", num=2)
    assert build(output="house.png", num=2, is_forced=True).outputs.write(1, b"new") == Path("house-2.png")
    assert Path("house-2.png").read_bytes() == b"new"


def test_a_file_created_meanwhile_is_not_overwritten(build: Build) -> None:
    outputs = build(output="house.png").outputs
    Path("house.png").write_text("mine")
    with pytest.raises(GenerateError, match="meanwhile"):
        outputs.write(0, b"new")
    assert Path("house.png").read_text() == "mine"
    assert files() == ["house.png", "scribble.png"]


def test_a_failed_write_leaves_no_file(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = build(output="house.png").outputs

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(GenerateError, match="No space left"):
        outputs.write(0, b"new")
    assert files() == ["scribble.png"]


def test_a_device_is_not_replaced(build: Build) -> None:
    outputs = build(output="/dev/null", picture_format="png").outputs
    outputs.write(0, b"new")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": None, "scribble": None}, "prompt is missing"),
        ({"prompt": ""}, "prompt is missing"),
        ({"scribble": None}, "scribble is missing.* - for standard input.*--example: house, fish"),
        ({"scribble": "nope.png"}, r"nope\.png cannot be read \(No such file"),
        ({"scribble": "."}, "cannot be read"),
        ({"example": "house"}, "has its own scribble"),
        ({"scribble": None, "example": "horse"}, "no example horse.*house, fish"),
        ({"output": "house.gif"}, "does not name a format"),
        ({"output": "house"}, "does not name a format"),
        ({"output": "house.png", "picture_format": "webp"}, "house.png means png, but --format is webp"),
        ({"output": "nowhere/house.png"}, "folder nowhere for house.png does not exist"),
        ({"output": "-", "num": 2}, "only one picture"),
        ({"from_picture": Path("nope.png")}, "No such file"),
        ({"from_picture": Path("scribble.png"), "example": "house"}, "both name a scribble"),
    ],
)
def test_invalid_options_raise_an_error_with_a_reason(build: Build, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(**options)


def test_no_picture_is_written_to_a_terminal(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UsageError, match="terminal"):
        build(output="-")


def test_the_scribble_is_read_from_standard_input(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(picture()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert build(scribble="-").scribble == picture()
    with pytest.raises(UsageError, match="Standard input is empty"):
        build(scribble="-")


def test_an_example_has_a_prompt_that_can_be_overridden(build: Build) -> None:
    assert build(None, None, example="house").fields_of(0)["prompt"] == request.examples()["house"]
    assert build("a blue house", None, example="house").fields_of(0)["prompt"] == "a blue house"


def test_a_seed_counts_up_and_a_random_seed_is_not_sent(build: Build) -> None:
    built = build(num=3, fields={"seed": 7})
    assert [built.fields_of(index)["seed"] for index in range(3)] == [7, 8, 9]
    assert "seed" not in build(fields={"seed": -1}).fields_of(0)
    assert "seed" not in build(fields={"seed": None}).fields_of(0)


def test_pictures_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    path, usual = tmp_path / "a.png", tmp_path / "usual"
    Outputs((path,), "png").write(0, b"x")
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("ink", {"name": "ink", "scale": 1.0}),
        ("ink:0.8", {"name": "ink", "scale": 0.8}),
        ("Ink style v1:-1", {"name": "Ink style v1", "scale": -1.0}),
    ],
)
def test_a_lora_may_have_a_scale(option: str, expected: dict[str, Any]) -> None:
    assert request.lora(option) == expected


def test_a_scale_that_is_no_number_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"--lora ink:much: the scale much"):
        request.lora("ink:much")
