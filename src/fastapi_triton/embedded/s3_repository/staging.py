# SPDX-License-Identifier: Apache-2.0
"""Unfinished files. Their finished pieces are kept when the process ends, however it does."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastapi_triton.embedded.s3_repository.inventory import RemoteFile

PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of one object, fetched by one request."""

    file: RemoteFile
    number: int
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        """How many there are in it."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return self.start == 0 and self.stop == self.file.size


class Staging:
    """A folder of unfinished files, named after what they will hold and not after their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._piece_bytes = PIECE_BYTES

    def prepare(self, files: Iterable[RemoteFile]) -> None:
        """Make the folder, and remove what is not of these files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        wanted = {name for file in files for name in (self._name(file), f"{self._name(file)}.part")}
        wanted |= {f"{name}.pieces" for name in wanted}
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink()

    def finished(self, file: RemoteFile) -> Path:
        """Where the file is once it is whole and checked."""
        return self._folder / self._name(file)

    def part(self, file: RemoteFile) -> Path:
        """Where it is until then."""
        return self._folder / f"{self._name(file)}.part"

    def missing(self, file: RemoteFile) -> list[Piece]:
        """The missing pieces, in order; at least one, unless the file is finished."""
        if self.finished(file).exists():
            return []
        here = self._here(file)
        pieces = self.pieces(file)
        return [piece for piece in pieces if piece.number not in here] or pieces[-1:]

    def pieces(self, file: RemoteFile) -> list[Piece]:
        """All pieces of the file; an empty file has one empty piece."""
        starts = range(0, file.size, self._piece_bytes) or [0]
        return [
            Piece(file, number, start, min(start + self._piece_bytes, file.size)) for number, start in enumerate(starts)
        ]

    def note(self, piece: Piece) -> None:
        """Record that this piece is written."""
        if not piece.is_whole:
            with self._pieces(piece.file).open("a", encoding="ascii") as record:
                record.write(f"{piece.number} {self._piece_bytes}\n")

    def discard(self, file: RemoteFile) -> None:
        """Remove everything of the file."""
        for path in (self.part(file), self._pieces(file), self.finished(file)):
            path.unlink(missing_ok=True)

    def finish(self, file: RemoteFile) -> None:
        """Set the time of the upload, and protect the checked file against writes in place.

        Snapshots share their files, so one that was written to would change in all of them.
        """
        part, finished = self.part(file), self.finished(file)
        os.utime(part, ns=(file.modified_ns, file.modified_ns))
        part.rename(finished)
        finished.chmod(0o444)
        self._pieces(file).unlink(missing_ok=True)

    def _here(self, file: RemoteFile) -> set[int]:
        """Pieces that an earlier process finished; of another size than ours they are none."""
        try:
            lines = self._pieces(file).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return set()
        if not self.part(file).exists():
            return set()
        noted = (line.split() for line in lines)
        return {int(each[0]) for each in noted if len(each) == 2 and each[1] == str(self._piece_bytes)}

    def _pieces(self, file: RemoteFile) -> Path:
        return self._folder / f"{self._name(file)}.part.pieces"

    def _name(self, file: RemoteFile) -> str:
        return hashlib.sha256(f"{file.key}\0{file.size}\0{file.etag}".encode()).hexdigest()[:32]
