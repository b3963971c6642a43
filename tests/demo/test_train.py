# SPDX-License-Identifier: Apache-2.0
"""Messages of `python -m demo.train` about problems, before it starts and when it stops."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest

from demo import train
from demo.run import Clock
from demo.team import Team, run_team

if TYPE_CHECKING:
    from pathlib import Path


def test_missing_package_is_named_with_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without_diffusers(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "diffusers":
            raise ImportError(name="diffusers")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_diffusers)
    with pytest.raises(train.TrainingError, match=r"diffusers.*pip install"):
        train.check(train.parse(["--work", str(tmp_path)]))


def test_full_disk_is_reported_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(train, "missing_package", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1))
    with pytest.raises(train.TrainingError, match="choose another --work"):
        train.check(train.parse(["--work", str(tmp_path)]))


def test_disk_needs_room_only_for_scenes_that_do_not_exist(tmp_path: Path):
    options = train.parse(["--work", str(tmp_path), "--shards", "12"])
    everything = train.gigabytes_needed(options)
    assert train.gigabytes_needed(train.parse(["--work", str(tmp_path)])) > everything + 3
    (tmp_path / "scenes").mkdir()
    for number in range(12):
        (tmp_path / "scenes" / f"{number:05d}.captions.json").touch()
    assert everything - 1.3 < train.gigabytes_needed(options) < everything - 1


@pytest.mark.parametrize("size", [1, 2])
def test_full_disk_while_training_is_reported(
    size: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(train, "check", lambda _: None)
    monkeypatch.setattr(train, "train", lambda _: run_team(fill_the_disk, size))
    assert train.main([]) == 1
    assert "cannot read or write: [Errno 28] No space left on device" in caplog.text


def fill_the_disk(_team: Team) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_stage_of_no_minutes_is_over_at_once():
    assert Clock(0).tick() == 1.0


def test_init_folder_without_checkpoint_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "missing_package", lambda: None)
    with pytest.raises(train.TrainingError, match=r"no model_index\.json"):
        train.check(train.parse(["--work", str(tmp_path), "--init", str(tmp_path)]))


def test_a_work_folder_belongs_to_one_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Weights of another start would be combined with this start's tokens and VAE."""
    monkeypatch.setattr(train, "missing_package", lambda: None)
    init, work = tmp_path / "init", tmp_path / "work"
    init.mkdir()
    (init / "model_index.json").touch()
    from_random = train.parse(["--work", str(work)])
    from_init = train.parse(["--work", str(work), "--init", str(init)])

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("demo.dataset.draw_shards", stopped)
    monkeypatch.setattr("demo.run.give_way", lambda: None)
    for started, other, before in ((from_random, from_init, "random weights"), (from_init, from_random, str(init))):
        shutil.rmtree(work, ignore_errors=True)
        train.check(started)
        with pytest.raises(KeyboardInterrupt):
            train.train(started)
        train.check(started)
        with pytest.raises(train.TrainingError, match=f"started from {before}: choose another --work"):
            train.check(other)


def test_interruption_reports_how_to_resume(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def interrupted(_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "check", lambda _: None)
    monkeypatch.setattr(train, "train", interrupted)
    assert train.main([]) == 130
    assert "resumes from the last saved state" in caplog.text
