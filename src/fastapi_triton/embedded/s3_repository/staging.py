# SPDX-License-Identifier: Apache-2.0
"""Stores unfinished files. Their finished pieces stay on disk even if the process is killed."""

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
        """The size of the piece."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether the piece is the whole file."""
        return self.start == 0 and self.stop == self.file.size


class Staging:
    """A folder of unfinished files. Their names are hashes of key, size and ETag."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._piece_bytes = PIECE_BYTES

    def prepare(self, files: Iterable[RemoteFile]) -> None:
        """Make the folder, and remove files that do not belong to these."""
        self._folder.mkdir(parents=True, exist_ok=True)
        wanted = {name for file in files for name in (self._name(file), f"{self._name(file)}.part")}
        wanted |= {f"{name}.pieces" for name in wanted}
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink()

    def finished(self, file: RemoteFile) -> Path:
        """The path of the file when it is complete and checked."""
        return self._folder / self._name(file)

    def part(self, file: RemoteFile) -> Path:
        """The path of the file before that."""
        return self._folder / f"{self._name(file)}.part"

    def missing(self, file: RemoteFile) -> list[Piece]:
        """The missing pieces in order; at least one if the file is not finished, so that it gets finished."""
        if self.finished(file).exists():
            return []
        finished = self._finished_pieces(file)
        pieces = self.pieces(file)
        return [piece for piece in pieces if piece.number not in finished] or pieces[-1:]

    def pieces(self, file: RemoteFile) -> list[Piece]:
        """All pieces of the file; an empty file has one empty piece."""
        starts = range(0, file.size, self._piece_bytes) or [0]
        return [
            Piece(file, number, start, min(start + self._piece_bytes, file.size)) for number, start in enumerate(starts)
        ]

    def record(self, piece: Piece) -> None:
        """Record that this piece is on disk."""
        if not piece.is_whole:
            with self._pieces(piece.file).open("a", encoding="ascii") as lines:
                lines.write(f"{piece.number} {self._piece_bytes}\n")

    def discard(self, file: RemoteFile) -> None:
        """Remove the file and its record."""
        for path in (self.part(file), self._pieces(file), self.finished(file)):
            path.unlink(missing_ok=True)

    def finish(self, file: RemoteFile) -> None:
        """Give the checked file its upload time, and make it read-only.

        Snapshots share files, so a write to one would change all of them.
        """
        part, finished = self.part(file), self.finished(file)
        os.utime(part, ns=(file.modified_ns, file.modified_ns))
        part.rename(finished)
        finished.chmod(0o444)
        self._pieces(file).unlink(missing_ok=True)

    def _finished_pieces(self, file: RemoteFile) -> set[int]:
        """The numbers of the pieces on disk; none if they have another size than ours."""
        try:
            lines = self._pieces(file).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return set()
        if not self.part(file).exists():
            return set()
        recorded = (line.split() for line in lines)
        return {int(each[0]) for each in recorded if len(each) == 2 and each[1] == str(self._piece_bytes)}

    def _pieces(self, file: RemoteFile) -> Path:
        return self._folder / f"{self._name(file)}.part.pieces"

    def _name(self, file: RemoteFile) -> str:
        return hashlib.sha256(f"{file.key}\0{file.size}\0{file.etag}".encode()).hexdigest()[:32]
