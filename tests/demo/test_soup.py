# SPDX-License-Identifier: Apache-2.0
"""Combined trainings: weights, and the files that are copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo.bundle import TRAINED
from demo.soup import SoupError, combine, parse

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint(folder: Path, value: float) -> Path:
    for name in (*TRAINED, "vae"):
        (folder / name).mkdir(parents=True)
        save_file({"weight": torch.full((2,), value, dtype=torch.float16)}, folder / name / "model.safetensors")
    (folder / "model_index.json").write_text("{}")
    (folder / "serving.json").write_text(f'{{"from": {value}}}')
    return folder


def test_new_weights_are_the_mean_change_times_the_factor(tmp_path: Path) -> None:
    folders = [str(checkpoint(tmp_path / str(value), value)) for value in (1.0, 2.0, 5.0)]
    out = tmp_path / "out"
    combine(parse([*folders, "--shares", "0.25", "0.75", "--factor", "2", "--out", str(out)]))
    for name, expected in [*((name, 1 + 2 * (0.25 * 1 + 0.75 * 4)) for name in TRAINED), ("vae", 5.0)]:
        (weight,) = load_file(out / name / "model.safetensors").values()
        assert (weight.dtype, weight.tolist()) == (torch.float16, [expected] * 2), name
    assert (out / "serving.json").read_text() == '{"from": 5.0}'


def test_the_mean_is_the_default(tmp_path: Path) -> None:
    folders = [str(checkpoint(tmp_path / str(value), value)) for value in (1.0, 2.0, 5.0)]
    combine(parse([*folders, "--out", str(tmp_path / "out")]))
    (weight,) = load_file(tmp_path / "out" / "unet" / "model.safetensors").values()
    assert weight.tolist() == [3.5, 3.5]


@pytest.mark.parametrize("shares", [("1",), ("0.5", "0.6")])
def test_shares_that_do_not_fit_are_rejected(shares: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["start", "a", "b", "--shares", *shares, "--out", "out"])
    assert "--shares needs a share for each training, and their sum is 1" in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = checkpoint(tmp_path / "start", 1.0)
    with pytest.raises(SystemExit):
        parse([str(start), str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert "none is not a checkpoint folder" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["start", "first"])
def test_out_that_is_read_as_well_is_rejected(which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start, first = checkpoint(tmp_path / "start", 1.0), checkpoint(tmp_path / "first", 2.0)
    with pytest.raises(SystemExit):
        parse([str(start), str(first), "--out", str(tmp_path / which)])
    assert "is read as well: choose another folder" in capsys.readouterr().err
    (weight,) = load_file(start / "unet" / "model.safetensors").values()
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "tensors",
    [{"weight": torch.zeros(1)}, {"other": torch.zeros(2)}, {"weight": torch.zeros(2), "more": torch.ones(1)}],
)
def test_checkpoints_of_other_networks_are_rejected_before_anything_is_written(
    tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start, other = checkpoint(tmp_path / "start", 1.0), checkpoint(tmp_path / "other", 2.0)
    save_file(tensors, other / "unet" / "model.safetensors")
    with pytest.raises(SoupError, match=r"other did not continue .*start: they differ in \w+ of unet/model"):
        combine(parse([str(start), str(other), "--out", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_other_tokens_are_rejected(tmp_path: Path) -> None:
    folders = [checkpoint(tmp_path / name, 1.0) for name in ("start", "other")]
    for folder in folders:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer.json").write_text(folder.name)
    with pytest.raises(SoupError, match="the vocabulary"):
        combine(parse([*map(str, folders), "--out", str(tmp_path / "out")]))


def test_others_can_read_the_new_weights(tmp_path: Path) -> None:
    folders = [str(checkpoint(tmp_path / name, 1.0)) for name in ("start", "other")]
    combine(parse([*folders, "--out", str(tmp_path / "out")]))
    assert (tmp_path / "out" / "unet" / "model.safetensors").stat().st_mode & 0o044
