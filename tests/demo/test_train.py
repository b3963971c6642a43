# SPDX-License-Identifier: Apache-2.0
"""What `python -m demo.train` says before it would fail, and the budget that a resumed run keeps."""

from __future__ import annotations

import builtins
import shutil
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest

from demo import train

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_package_is_named_with_the_command_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without_diffusers(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "diffusers":
            raise ImportError(name="diffusers")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_diffusers)
    with pytest.raises(train.TrainingError, match=r"diffusers.*pip install"):
        train.check(train.parse(["--work", str(tmp_path)]))


def test_a_full_disk_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(train, "missing_package", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1))
    with pytest.raises(train.TrainingError, match="choose another --work"):
        train.check(train.parse(["--work", str(tmp_path)]))


def test_starting_from_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "missing_package", lambda: None)
    with pytest.raises(train.TrainingError, match=r"no model_index\.json"):
        train.check(train.parse(["--work", str(tmp_path), "--init", str(tmp_path)]))


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def interrupted(_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "check", lambda _: None)
    monkeypatch.setattr(train, "train", interrupted)
    assert train.main([]) == 130
    assert "goes on from the last saved state" in caplog.text
