# SPDX-License-Identifier: Apache-2.0
"""A repository of unusual models: the configs in `odd_models/`. Their second line names their code."""

import shutil
from pathlib import Path

ODD_MODELS = Path(__file__).with_name("odd_models")
NAMES = sorted(path.name.removesuffix(".pbtxt") for path in ODD_MODELS.glob("*.pbtxt"))


def add_model(repository: Path, name: str) -> None:
    config = ODD_MODELS / f"{name}.pbtxt"
    code = config.read_text().splitlines()[1].removeprefix("# model: ")
    version = repository / name / "1"
    version.mkdir(parents=True)
    shutil.copy(config, repository / name / "config.pbtxt")
    shutil.copy(ODD_MODELS / code, version / "model.py")


def make(repository: Path) -> Path:
    for name in NAMES:
        add_model(repository, name)
    return repository
