# SPDX-License-Identifier: Apache-2.0
"""What a picture decoder makes of a file: the strokes of a scribble, a fitted picture, or a mask. Imports no torch."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from diffusion_engine.image_files.structure import Structure

T = TypeVar("T")


class Decoding(ABC, Generic[T]):
    """One kind of decoding with its options. Subclasses are dataclasses whose fields JSON can hold."""

    field: ClassVar[str]  # the input that has the file

    @abstractmethod
    def decode(self, content: bytes, structure: Structure) -> T:
        """Decode a picture file. `content` may lack the parts that decoders do not need."""

    @abstractmethod
    def pack(self, result: T) -> tuple[dict[str, Any], bytes]:
        """A result as JSON and bytes."""

    @abstractmethod
    def unpack(self, facts: dict[str, Any], content: bytes) -> T:
        """The inverse of `pack`. A decoder may have been taken over by a file, so it may return anything."""


class Decode(Protocol):
    """Decodes a picture file, in this process or in another."""

    def __call__(self, decoding: Decoding[T], content: bytes, structure: Structure) -> T: ...


def decode_here(decoding: Decoding[T], content: bytes, structure: Structure) -> T:
    """Decode in this process."""
    return decoding.decode(content, structure)
