# SPDX-License-Identifier: Apache-2.0
"""The types of arrays that hold pixels: of finished pictures, of pictures that are being painted, and of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # a picture (H, W, 3) or a scribble (H, W), in levels from 0 to 255
Values = npt.NDArray[np.floating[Any]]  # colours (H, W, 3), coverage or noise (H, W), in about 0..1
Mask = npt.NDArray[np.bool_]  # (H, W)
