# SPDX-License-Identifier: Apache-2.0
"""The version folders of a model, and those that Triton loads."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LEADING_NUMBER = re.compile(r"\s*([+-]?[0-9]+)", re.ASCII)
_LARGEST = 2**63 - 1


def find(folder: Path) -> tuple[int, ...]:
    """The versions in a model's folder, in order. Triton reads `1a` as 1, and ignores names with a leading zero."""
    names = [each.name for each in folder.iterdir() if each.is_dir() and not has_leading_zero(each.name)]
    numbers = {int(found[1]) for name in names if (found := _LEADING_NUMBER.match(name))}
    return tuple(sorted(number for number in numbers if abs(number) <= _LARGEST))


def has_leading_zero(name: str) -> bool:
    return len(name) > 1 and name.startswith("0")


def served(versions: Sequence[int], policy: Mapping[str, Any] | None) -> list[int]:
    """The versions that Triton loads under a config's `version_policy`: by default the newest one."""
    if policy is None:
        return list(versions[-1:])
    if "specific" in policy:
        return [each for each in versions if each in policy["specific"].get("versions", ())]
    newest = int(policy["latest"].get("num_versions", 0)) if "latest" in policy else len(versions)
    return list(versions[max(0, len(versions) - newest) :])
