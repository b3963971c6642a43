# SPDX-License-Identifier: Apache-2.0
"""Files and names that would block `check`, fill its memory or crash it: it reports them, or ignores them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from config_cases.case import PYTHON_MODEL, TENSORS
from test_agrees_with_triton import errors

TOO_LONG = "a" * 300
GIGABYTES = 2**33
PYTHON = f'backend: "python" {TENSORS}'
LABELS = TENSORS.replace("dims: [ 1 ]", 'dims: [ 1 ] label_filename: "LABELS"')
ENVIRONMENT = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/NAME" } }'
WARM_UP = """
max_batch_size: 1
input { name: "x" data_type: TYPE_STRING dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
model_warmup { name: "w" batch_size: 1
  inputs { key: "x" value { data_type: TYPE_STRING dims: 1 input_data_file: "NAME" } } }
"""


def sparse(path: Path) -> None:
    """A file of gigabytes that takes no space."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(GIGABYTES)


def no_change(_: Path) -> None:
    """The folder stays as it is."""


async def codes(folder: Path, config: str, change: Callable[[Path], object]) -> set[str]:
    """The rules that find errors in a model."""
    model = folder / "m"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(PYTHON_MODEL)
    (model / "config.pbtxt").write_text(config)
    change(model)
    return {each.code for each in await errors(folder)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda model: os.mkfifo(model / "1" / "other.py"), set()),
        (lambda model: (model / "1" / "other.py").mkdir(), set()),
        (lambda model: (model / "1" / "other.py").symlink_to("/dev/zero"), set()),
        (lambda model: (model / "1" / "other.py").symlink_to("other.py"), set()),
        (lambda model: sparse(model / "1" / "model.py"), {"unreadable-python"}),
        (lambda model: sparse(model / "config.pbtxt"), {"unreadable-config"}),
    ],
    ids=["FIFO", "folder", "device", "loop", "large model.py", "large config.pbtxt"],
)
async def test_unusual_files(change: Callable[[Path], object], expected: set[str], tmp_path: Path) -> None:
    assert await codes(tmp_path, PYTHON, change) == expected


@pytest.mark.parametrize("name", [TOO_LONG, "a\\000", "/etc/hostname", "loop", "pipe"])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (f'{PYTHON} default_model_filename: "NAME.py"', "no-model-file"),
        (f'backend: "python" {LABELS.replace("LABELS", "NAME")}', "no-label-file"),
        (f'backend: "custom" {TENSORS} runtime: "NAME"', "invalid-runtime"),
        (f'backend: "custom" {WARM_UP}', "invalid-warmup"),
        (f"{PYTHON} {ENVIRONMENT}", "invalid-parameter"),
    ],
    ids=["model file", "labels", "runtime", "warm-up", "environment"],
)
async def test_names_of_files_that_cannot_be_read(config: str, expected: str, name: str, tmp_path: Path) -> None:
    def change(model: Path) -> None:
        (model / "loop").symlink_to("loop")
        if expected != "invalid-parameter":  # an environment may be a folder, too
            os.mkfifo(model / "pipe")

    assert expected in await codes(tmp_path, config.replace("NAME", name), change)


async def test_texts_of_a_large_file_are_counted_only_up_to_the_expected_number(tmp_path: Path) -> None:
    config = f'backend: "custom" {WARM_UP.replace("NAME", "texts")}'
    assert await codes(tmp_path, config, lambda model: sparse(model / "warmup" / "texts")) == {"invalid-warmup"}
