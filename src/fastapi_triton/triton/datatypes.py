# SPDX-License-Identifier: Apache-2.0
"""Triton's datatypes, one table: name on the wire, name in `config.pbtxt`, numpy dtype, kind of value, range."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt

Kind = Literal["bool", "integer", "float", "bytes"]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One Triton datatype. numpy itself has no BF16; `ml_dtypes`, which tritonclient uses too, adds it."""

    wire: str
    config: str
    numpy: np.dtype[Any]
    kind: Kind

    @property
    def integer_range(self) -> tuple[int, int]:
        """Smallest and largest value of an integer datatype."""
        return _integer_range(self.numpy)

    @property
    def float_max(self) -> float:
        """Largest finite value of a float datatype, with the fewest digits that identify it, as in JSON."""
        largest = ml_dtypes.finfo(self.numpy).max  # type: ignore[no-untyped-call]
        return float(str(np.float64(largest) if self.numpy.itemsize == 8 else np.float32(largest)))

    @property
    def range_in_words(self) -> str:
        """The valid values, as text for people."""
        if self.kind == "integer":
            low, high = self.integer_range
            return f"{low} to {high}"
        if self.kind == "float":
            return f"±{self.float_max}, NaN, ±Infinity"
        return "true, false" if self.kind == "bool" else "any bytes; text as UTF-8"


@functools.cache
def _integer_range(numpy: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(numpy)
    return int(info.min), int(info.max)


def _row(wire: str, config: str, numpy: npt.DTypeLike, kind: Kind) -> Datatype:
    return Datatype(wire, config, np.dtype(numpy), kind)


DATATYPES: tuple[Datatype, ...] = (
    _row("BOOL", "TYPE_BOOL", np.bool_, "bool"),
    _row("UINT8", "TYPE_UINT8", np.uint8, "integer"),
    _row("UINT16", "TYPE_UINT16", np.uint16, "integer"),
    _row("UINT32", "TYPE_UINT32", np.uint32, "integer"),
    _row("UINT64", "TYPE_UINT64", np.uint64, "integer"),
    _row("INT8", "TYPE_INT8", np.int8, "integer"),
    _row("INT16", "TYPE_INT16", np.int16, "integer"),
    _row("INT32", "TYPE_INT32", np.int32, "integer"),
    _row("INT64", "TYPE_INT64", np.int64, "integer"),
    _row("FP16", "TYPE_FP16", np.float16, "float"),
    _row("FP32", "TYPE_FP32", np.float32, "float"),
    _row("FP64", "TYPE_FP64", np.float64, "float"),
    _row("BF16", "TYPE_BF16", ml_dtypes.bfloat16, "float"),
    _row("BYTES", "TYPE_STRING", np.object_, "bytes"),
)

BY_WIRE = {datatype.wire: datatype for datatype in DATATYPES}
BY_CONFIG = {datatype.config: datatype for datatype in DATATYPES}
