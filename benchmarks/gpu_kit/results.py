# SPDX-License-Identifier: Apache-2.0
"""The results so far. They are written after every row, so that a run that is cut off still counts."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_kit.machine_check import Machine
from benchmarks.gpu_kit.part import Part

NOT_RUN = "not run"


@dataclass(slots=True, kw_only=True)
class PartResult:
    """The result of one part. `status` is not run, running, done, skipped or failed, and `reason` says why."""

    name: str
    title: str
    decides: str
    status: str = NOT_RUN
    reason: str = ""
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    decisions: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, part: Part) -> "PartResult":
        return cls(name=part.name, title=part.title, decides=part.decides)

    def take(self, kind: str, content: Any) -> None:
        """Add a message of the part's process."""
        if kind == "row":
            self.rows.append(content)
        elif kind == "decision":
            self.decisions.append(content)
        elif kind == "note":
            if content not in self.notes:
                self.notes.append(content)
        else:
            self.status, self.reason = kind, content or ""


@dataclass(slots=True, kw_only=True)
class Results:
    """The results of a run."""

    machine: Machine
    command: str
    commit: str
    started: str
    is_tiny: bool
    parts: list[PartResult]
    seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def write(file: Path, text: str) -> None:
    """Replace a file. A reader, or a run that is cut off, sees the old text or the new."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.replace(file)
