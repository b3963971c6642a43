# SPDX-License-Identifier: Apache-2.0
"""The number of GPUs that the driver shows to this process, found without packages that only GPU machines have."""

import ctypes


def num_gpus() -> int:
    """The number of GPUs that CUDA_VISIBLE_DEVICES allows; 0 without a working driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
