# SPDX-License-Identifier: Apache-2.0
"""A random repository: a valid one with one to three changes of its configs, their texts or its version folders."""

from random import Random

from config_cases.case import MODEL, Case
from google.protobuf import text_format

from nearly_valid import message_changes, text_changes
from nearly_valid.valid_repositories import VALID

# The entries of a model's folder. Names such as `1a` are left out: Triton reads `1` from it, which only a backend that
# reads files notices.
_FOLDERS = (("1",), ("1", "3"), ("1", "docs"), ("2",), ("0",), ("01",), ("latest",))
_NUM_CHANGES = [1, 1, 1, 1, 1, 1, 2, 3]
_KINDS = ["message"] * 10 + ["text", "folder"]


def repository(seed: int) -> Case:
    """The repository of this number."""
    chance = Random(seed)  # noqa: S311
    name = chance.choice(sorted(VALID))
    texts = dict(VALID[name])
    kinds = chance.choices(_KINDS, k=chance.choice(_NUM_CHANGES))
    configs = {model: message_changes.parse(text) for model, text in texts.items()}
    known_names = message_changes.names(list(configs.values()))
    models = [MODEL] * len(texts) + sorted(texts)  # most often the one to load
    for _ in range(kinds.count("message")):
        model = chance.choice(models)
        message_changes.change(chance, configs[model], known_names)
        texts[model] = text_format.MessageToString(configs[model])
    for _ in range(kinds.count("text")):
        model = chance.choice(models)
        texts[model] = text_changes.changed(chance, texts[model])
    files = {f"{model}/config.pbtxt": text for model, text in texts.items()}
    for model in texts:
        folders = chance.choice(_FOLDERS) if "folder" in kinds else ("1",)
        files |= {f"{model}/{folder}/weights": "" for folder in folders}
    config = files.pop(f"{MODEL}/config.pbtxt")
    return Case(f"{seed}: {name} with changes of {', '.join(kinds)}", config, files=files)
