# SPDX-License-Identifier: Apache-2.0
"""Reads the files of `deploy/ec2/` as CloudFormation, Ray and compose do, and writes stand-ins for programs."""

import re
from pathlib import Path
from typing import Any

import yaml

from support.paths import ROOT

EC2 = ROOT / "deploy" / "ec2"
REGION = "us-east-1"
BUCKET = "my-bucket"


class _Tagged(yaml.SafeLoader):
    """Loads CloudFormation's tags: `!Sub x` becomes `{"Sub": x}`."""


_Tagged.add_multi_constructor(
    "!",
    lambda loader, tag, node: {
        tag: (
            loader.construct_scalar(node)
            if isinstance(node, yaml.ScalarNode)
            else loader.construct_sequence(node, deep=True)
            if isinstance(node, yaml.SequenceNode)
            else loader.construct_mapping(node, deep=True)
        )
    },
)


def template(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((EC2 / f"{name}.yaml").read_text(encoding="utf-8"), _Tagged)  # noqa: S506
    return loaded


def ray_file() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((EC2 / "ray.yaml").read_text(encoding="utf-8"))
    return loaded


def serve_file() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((EC2 / "serve.yaml").read_text(encoding="utf-8"))
    return loaded


def resolved(value: Any, names: dict[str, str]) -> Any:
    """A template's value with `Ref`, `GetAtt` and `Sub` resolved from `names`, as CloudFormation does."""
    match value:
        case {"Ref": name} | {"GetAtt": name}:
            return names.get(name, name)
        case {"Sub": text}:
            return re.sub(r"\$\{([\w:.]+)\}", lambda found: names.get(found[1], found[1]), text)
        case dict():
            return {key: resolved(each, names) for key, each in value.items()}
        case list():
            return [resolved(each, names) for each in value]
    return value


def compose(*files: str) -> dict[str, Any]:
    services: dict[str, Any] = {}
    for file in files:
        for name, service in yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"].items():
            services.setdefault(name, {}).update(service)
    return services


def stand_in(folder: Path, name: str, script: str) -> None:
    """Write a program that logs its arguments to `$CALLS`, then runs `script`."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/bash\necho "{name} $*" >>"$CALLS"\n{script}\n', encoding="utf-8")
    program.chmod(0o755)


def calls(cloud: Path, program: str) -> list[str]:
    return [line for line in (cloud / "calls").read_text().splitlines() if line.startswith(program)]
