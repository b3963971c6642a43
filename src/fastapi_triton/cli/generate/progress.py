# SPDX-License-Identifier: Apache-2.0
"""Says how it goes: a progress bar where a terminal shows it, words beside the output, the files' names on it."""

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from fastapi_triton.cli.generate.client import Picture, Progress, Queued
from fastapi_triton.observability.logging_config import printable


class Teller:
    """Words and progress go to standard error; the files' names to standard output, if `names_files`."""

    def __init__(self, *, names_files: bool, is_quiet: bool) -> None:
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)
        self._output = Console(highlight=False, soft_wrap=True) if names_files else None
        self._is_quiet = is_quiet
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
        """The next picture is asked for."""
        self._bar.reset(self._task, description=_drawing(index, num), total=None, visible=True)

    def queued(self, index: int, num: int, queued: Queued) -> None:
        """The server has no room for it yet."""
        wait = "" if queued.estimated_wait_s is None else f", about {queued.estimated_wait_s:.0f} s left"
        place = f"number {queued.position} in the server's queue{wait}"
        self._bar.update(self._task, description=f"{_drawing(index, num)}: {place}")

    def step(self, index: int, num: int, progress: Progress) -> None:
        """The model has done one."""
        self._bar.update(
            self._task, description=_drawing(index, num), completed=progress.step, total=progress.num_steps
        )

    def finish(self, index: int) -> None:
        del index
        self._bar.update(self._task, visible=False)

    def wrote(self, file: Path | None, picture: Picture) -> None:
        """A picture is there. Its size, seed and time, after its name."""
        info = picture.info
        seconds = info.get("timings_s", {}).get("total", 0.0)
        if self._output and file:
            self._bar.stop()  # both may be the same terminal
            self._output.print(
                printable(f"{file}  {info.get('width')}x{info.get('height')}, seed {picture.seed}, {seconds:.1f} s"),
                markup=False,
            )
            self._bar.start()

    def say(self, words: str) -> None:
        """A line for people; scripts read it in the JSON."""
        if not self._is_quiet:
            self._errors.print(printable(words), markup=False)


def _drawing(index: int, num: int) -> str:
    return "Drawing" if num == 1 else f"Drawing {index + 1} of {num}"
