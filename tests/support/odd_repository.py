# SPDX-License-Identifier: Apache-2.0
"""Repositories of unusual models, `odd_models/`, and of models like those of Triton's examples, `example_models/`.

The second line of a config names its code.
"""

import shutil
from pathlib import Path

ODD_MODELS = Path(__file__).with_name("odd_models")
EXAMPLE_MODELS = Path(__file__).with_name("example_models")


def names(models: Path) -> list[str]:
    return sorted(path.name.removesuffix(".pbtxt") for path in models.glob("*.pbtxt"))


NAMES = names(ODD_MODELS)


def add_model(repository: Path, name: str, models: Path = ODD_MODELS) -> None:
    config = models / f"{name}.pbtxt"
    text = config.read_text()
    code = text.splitlines()[1].removeprefix("# model: ")
    version = repository / name / "1"
    version.mkdir(parents=True)
    shutil.copy(config, repository / name / "config.pbtxt")
    if code != "none":  # an ensemble
        shutil.copy(models / code, version / "model.py")
    if "label_filename" in text:
        shutil.copy(models / "labels.txt", repository / name)


def make(repository: Path, models: Path = ODD_MODELS) -> Path:
    for name in names(models):
        add_model(repository, name, models)
    return repository
