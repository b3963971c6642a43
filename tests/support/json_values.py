# SPDX-License-Identifier: Apache-2.0
"""JSON values of every datatype, and their equality."""

import base64
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fastapi_triton.triton.datatypes import Datatype

NON_FINITE = ["NaN", "Infinity", "-Infinity"]


def values(datatype: Datatype) -> st.SearchStrategy[Any]:
    """JSON values that the datatype represents exactly."""
    if datatype.kind == "bool":
        return st.booleans()
    if datatype.kind == "integer":
        return st.integers(*datatype.integer_range)
    if datatype.kind == "float":
        width = {"FP16": 16, "FP64": 64}.get(datatype.wire, 32)
        finite = st.floats(width=width, allow_nan=False, allow_infinity=False)
        if datatype.wire == "BF16":  # the upper half of a float32
            bits = st.integers(0, 2**16 - 1).map(lambda half: np.array([half << 16], np.uint32).view(np.float32).item())
            finite = bits.filter(math.isfinite)
        return st.one_of(finite, st.sampled_from(NON_FINITE))
    text = st.text(st.characters(exclude_categories=["Cs"]))
    return st.one_of(text, st.binary(min_size=1).map(as_bytes))


def as_bytes(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def same(sent: Any, came: Any, datatype: Datatype) -> bool:
    """Whether both are the same value of the datatype: 1 equals 1.0, and 0.1 equals its float32."""
    if isinstance(sent, list):
        return len(sent) == len(came) and all(same(*pair, datatype) for pair in zip(sent, came, strict=True))
    if datatype.kind == "float" and not isinstance(sent, str):
        return bool(np.array(sent, datatype.numpy) == np.array(came, datatype.numpy))
    return type(sent) is type(came) and bool(sent == came)
