# SPDX-License-Identifier: Apache-2.0
"""Rules for the text of a config: its syntax, placeholders and invisible characters."""

import re
import unicodedata
from collections.abc import Iterator

from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
_PLACEHOLDER = re.compile(r"\$\{[^{}]*\}")
# Whose texts other files and requests must repeat.
_NAMES = ("name", "backend", "platform", "default_model_filename", "model_name", "key")
# Unicode's categories of controls, formats and separators.
_INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


@RULES.add("unreadable-config", ERROR, advice="Correct the line; retype invisible characters and curly quotes.")
def unreadable_config(model: ModelFolder) -> Iterator[str]:
    """Triton does not load the model: "failed to read text proto"."""
    if model.error:
        yield model.error


@RULES.add("unfilled-placeholder", WARNING, advice="Fill it in, or waive this if the backend expects it.")
def unfilled_placeholder(model: ModelFolder) -> Iterator[str]:
    """Triton uses a `${placeholder}` in quotes as it is."""
    for path, text in _texts(model.settings):
        for placeholder in dict.fromkeys(_PLACEHOLDER.findall(text)):
            yield f"`{path}` has {placeholder}, a placeholder that was never filled in"


@RULES.add("invisible-character", WARNING, advice="Remove it.")
def invisible_character(model: ModelFolder) -> Iterator[str]:
    """The name differs from the one that clients and files use."""
    for path, text in _texts(model.settings):
        if path.rpartition(".")[2] in _NAMES:
            for each in sorted({each for each in text if each != " " and unicodedata.category(each) in _INVISIBLE}):
                yield f"`{path}` has U+{ord(each):04X} {unicodedata.name(each, '(a control character)')}"


def _texts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a config, with its path: `input[0].name`. The keys of a map are texts too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, each in value.items():
            if not key.isidentifier():
                yield f"{path}.key", key
            yield from _texts(each, f"{path}.{key}".lstrip("."))
