# SPDX-License-Identifier: Apache-2.0
"""Output for people: a progress bar on terminals, messages on standard error, file names on standard output."""

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from fastapi_triton.cli.generate.client import GeneratedPicture, Queued, StepProgress
from fastapi_triton.observability.logging_config import printable


class ProgressDisplay:
    """Writes messages and progress to standard error, and the files' names to standard output if `names_files`."""

    def __init__(self, *, names_files: bool, is_quiet: bool) -> None:
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)
        self._output = Console(highlight=False, soft_wrap=True) if names_files else None
        self._is_quiet = is_quiet
        self._title = ""
        self._bar = ProgressBar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps,"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._errors,
            transient=True,
            disable=not self._errors.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, start=False, visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, index: int, num: int) -> None:
        """A picture has been requested."""
        self._title = "Drawing" if num == 1 else f"Drawing {index + 1} of {num}"
        self._bar.reset(self._task, description=self._title, total=None, visible=True)

    def queued(self, queued: Queued) -> None:
        """The picture waits in the server's queue: show its position."""
        wait = "" if queued.estimated_total_s is None else f", about {queued.estimated_total_s:.0f} s left"
        position = f"position {queued.position} in the server's queue{wait}"
        self._bar.update(self._task, description=f"{self._title}: {position}")

    def step(self, progress: StepProgress) -> None:
        """The model finished a step."""
        self._bar.update(self._task, description=self._title, completed=progress.step, total=progress.num_steps)

    def finish(self) -> None:
        """The picture has arrived."""
        self._bar.update(self._task, visible=False)

    def wrote(self, file: Path, picture: GeneratedPicture) -> None:
        """The picture is written: print its file, size, seed and time."""
        if self._output:
            info = picture.info
            size, seconds = f"{info.get('width')}x{info.get('height')}", info.get("timings_s", {}).get("total", 0.0)
            self._bar.stop()  # both may be the same terminal
            self._output.print(printable(f"{file}  {size}, seed {picture.seed}, {seconds:.1f} s"), markup=False)
            self._bar.start()

    def print(self, message: str) -> None:
        """Print a message for people. Scripts read it in the JSON."""
        if not self._is_quiet:
            self._errors.print(printable(message), markup=False)
