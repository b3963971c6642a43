# SPDX-License-Identifier: Apache-2.0
"""Files with a tensor's data that a config names: for warm-up and for the initial state of sequences."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from fastapi_triton.cli.check import named_files
from fastapi_triton.triton.datatypes import BY_CONFIG

_LENGTH_BYTES = 4


def problems(folder: Path, name: str, tensor: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the file `name` of a tensor with `data_type` and `dims`. The size of texts is not checked."""
    path = named_files.joined(folder, name)
    if not name or not named_files.is_file(path):
        yield f"failed to open text file for read {folder.name}/{name}: there is no such file"
        return
    datatype = BY_CONFIG.get(tensor.get("data_type", ""))
    if datatype is not None and datatype.kind == "bytes":
        return
    size = _LENGTH_BYTES if datatype is None else datatype.numpy.itemsize  # as Triton does for TYPE_INVALID
    expected, found = prod(tensor.get("dims", ())) * size, path.stat().st_size
    if found < expected:
        yield f"expects {expected} bytes, but the data provided from {name} only has {found} bytes"


def count_texts(path: Path, *, at_most: int) -> int | None:
    """The number of texts in a file, each after its length in 4 bytes; None if it ends within a length.

    Counting stops above `at_most`.
    """
    position, count, size = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        while position < size and count <= at_most:
            file.seek(position)
            length = file.read(_LENGTH_BYTES)
            if len(length) < _LENGTH_BYTES:
                return None
            position += _LENGTH_BYTES + int.from_bytes(length, "little")
            count += 1
    return count
