# SPDX-License-Identifier: Apache-2.0
"""An input or an output as a config has it, perhaps with missing fields."""

from collections.abc import Mapping, Sequence
from typing import Any

Tensor = Mapping[str, Any]


def missing_fields(tensor: Tensor) -> list[str]:
    """The fields that a tensor needs and does not have."""
    given = {**tensor, "data_type": tensor.get("data_type") not in (None, "TYPE_INVALID")}
    return [field for field in ("name", "data_type", "dims") if not given.get(field)]


def is_broken(tensor: Tensor) -> bool:
    """Whether it is incomplete or has an unknown datatype."""
    return bool(missing_fields(tensor)) or not isinstance(tensor["data_type"], str)


def model_dims(tensor: Tensor) -> Sequence[int]:
    """The dims that the model sees: those of `reshape`, if there is one."""
    dims: Sequence[int] = tensor["reshape"].get("shape", ()) if "reshape" in tensor else tensor.get("dims", ())
    return dims
