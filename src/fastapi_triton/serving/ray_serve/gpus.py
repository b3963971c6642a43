# SPDX-License-Identifier: Apache-2.0
"""How many GPUs the driver shows to this process, asked without anything that only a GPU machine needs."""

import ctypes


def num_gpus() -> int:
    """Those that CUDA_VISIBLE_DEVICES leaves; 0 where there is no driver, or none that answers."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
