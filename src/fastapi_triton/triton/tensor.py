# SPDX-License-Identifier: Apache-2.0
"""`Tensor`: an input or output of a model. A tensor of one value, the usual case, never becomes a numpy array."""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastapi_triton.triton.datatypes import Datatype


class Tensor:
    """An array with its Triton datatype. BYTES tensors are object arrays whose elements are `bytes`.

    A tensor of one value makes its array on first use.
    """

    __slots__ = ("_array", "datatype", "shape", "value")

    def __init__(self, datatype: Datatype, array: npt.NDArray[Any]) -> None:
        self.datatype = datatype
        self.shape: Sequence[int] = array.shape
        # Given or made on first use; a view if the response's bytes were not copied.
        self.value: bytes | memoryview | float | None = None
        self._array: npt.NDArray[Any] | None = array

    @classmethod
    def of_one(cls, datatype: Datatype, value: bytes | memoryview | float, shape: Sequence[int]) -> Self:
        """A tensor of one value, which must be valid for the datatype.

        Raises:
            ValueError: a dimension of the shape is not 1.
        """
        if shape.count(1) != len(shape):
            raise ValueError(f"one value cannot have the shape {list(shape)}")
        tensor = cls.__new__(cls)
        tensor.datatype = datatype
        tensor.shape = shape
        tensor.value = value
        tensor._array = None
        return tensor

    @property
    def array(self) -> npt.NDArray[Any]:
        """All values. BYTES are never `np.bytes_`, from which numpy strips trailing NULs."""
        if self._array is None:
            self._array = np.empty(tuple(self.shape), dtype=self.datatype.numpy)
            self._array.fill(bytes(self.value) if isinstance(self.value, memoryview) else self.value)
        return self._array

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    def item(self) -> Any:
        """The value of a tensor with one value."""
        return self.array.item() if self.value is None else self.value

    def __repr__(self) -> str:
        return f"Tensor({self.datatype.wire}, {list(self.shape)})"  # without values, which may be a client's text
