# SPDX-License-Identifier: Apache-2.0
"""Rules for one model's folder and config."""

import re
from collections.abc import Iterator

from fastapi_triton.cli.check import named_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, NOTE, WARNING, Rules
from fastapi_triton.cli.check.versions import has_leading_zero
from fastapi_triton.triton import generate_codec

RULES: Rules[ModelFolder] = Rules()
_ENDS_SHELL_WORD = re.compile(r"""[\s;|&$`<>()\\'"]|^#""")
_SHELL_PATTERN = re.compile(r"[*?\[\]{}!~]|(?<!^)#")


@RULES.add("no-config", NOTE, advice="Write a config.pbtxt; `curl TRITON/v2/models/NAME/config` shows the guess.")
def no_config(model: ModelFolder) -> Iterator[str]:
    """The backend guesses the config, so nothing can be checked offline."""
    if not model.has_config_file:
        yield "there is no config.pbtxt"


@RULES.add("name-mismatch", ERROR, advice="Rename one of them, or remove `name`.")
def name_mismatch(model: ModelFolder) -> Iterator[str]:
    """Triton loads a model only under its folder's name."""
    if model.raw is not None and model.raw.get("name") != model.name:
        found = model.raw.get("name")
        yield f"unexpected directory name '{model.name}' for model '{found}', directory name must equal model name"


@RULES.add("shell-characters", ERROR, advice="Use letters, digits, `-`, `_` and `.`.")
def shell_characters(model: ModelFolder) -> Iterator[str]:
    """Triton starts Python models by a shell line with their name and file, and hangs if it fails."""
    if model.is_python:
        for what, name in (("name", model.name), ("file name", model.settings.get("default_model_filename", ""))):
            if found := _ENDS_SHELL_WORD.search(name):
                yield f"the {what} has `{found[0]}`"


@RULES.add("shell-patterns", WARNING, advice="Use letters, digits, `-`, `_` and `.`.")
def shell_patterns(model: ModelFolder) -> Iterator[str]:
    """Current versions of Triton reject such names of Python models."""
    if model.is_python and (found := _SHELL_PATTERN.search(model.name)):
        yield f"the name has `{found[0]}`"


@RULES.add("no-version", ERROR, advice="Move the model into a folder `1`.")
def no_version(model: ModelFolder) -> Iterator[str]:
    """Triton loads only version folders, whose names are numbers. An ensemble's may be empty."""
    if not model.versions:
        yield "at least one version must be available under the version policy: there is no version folder"
        for each in sorted(model.path.iterdir()):
            if each.is_dir() and has_leading_zero(each.name):
                yield f"Triton ignores `{each.name}`, which has leading zeros"


@RULES.add("invalid-version-policy", ERROR, advice="Correct it, or add the folder of a version that it allows.")
def invalid_version_policy(model: ModelFolder) -> Iterator[str]:
    """Triton rejects a model without a version that `version_policy` allows."""
    if model.versions and not model.served_versions:
        found = ", ".join(map(str, model.versions))
        ((policy, fields),) = model.settings["version_policy"].items()
        values = ", ".join(f"{name}: {value}" for name, value in fields.items())
        yield (
            f"at least one version must be available under the version policy: there are {found}, but it is "
            f"{policy} {{ {values} }}"
        )


@RULES.add("no-model-file", ERROR, advice="Add it, or set `default_model_filename`.")
def no_model_file(model: ModelFolder) -> Iterator[str]:
    """The Python backend needs model.py in every version folder that Triton loads."""
    if model.is_python and not model.model_file.endswith(".py"):
        yield f"Model name must end with '.py'. Model name is \"{model.model_file}\""
    for version in model.served_versions if model.is_python else ():
        if not named_files.is_file(named_files.joined(model.path / str(version), model.model_file)):
            yield f"model.py does not exist in the model repository path: {version}/{model.model_file}"


@RULES.add(
    "unstreamable-tensor",
    WARNING,
    advice="Set TRITON_GRPC_URL, or use FP32, at most one free dimension, or base64 text.",
)
def unstreamable_tensor(model: ModelFolder) -> Iterator[str]:
    """Streams over HTTP cannot carry it: the endpoint omits optional inputs, and other tensors prevent the endpoint."""
    if model.config is not None and model.config.decoupled:
        unstreamable = generate_codec.unstreamable(model.config)
        yield from (f"the input `{name}` {reason}" for name, reason in unstreamable.inputs.items())
        yield from (f"the output `{name}` {reason}" for name, reason in unstreamable.outputs.items())
