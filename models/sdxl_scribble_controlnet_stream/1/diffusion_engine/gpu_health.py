# SPDX-License-Identifier: Apache-2.0
"""Ends the process if its GPU no longer works.

After errors such as an illegal memory access, all later work on the GPU fails until the process ends. The frontend
notices the end of Triton's stub process; it does not notice an engine that fails every request.
"""

import logging
import os
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

EXIT_STATUS = 70  # EX_SOFTWARE


def end_process_if_broken(device: torch.device, *, before: Callable[[], None]) -> None:
    """Run a tiny computation on the device. If the device rejects it, call `before` and end this process.

    Does nothing for a CPU.
    """
    if device.type == "cpu":
        return
    try:
        torch.zeros(1, device=device).tolist()
    except torch.OutOfMemoryError:
        return
    except RuntimeError:  # torch.AcceleratorError, or an error of the CUDA driver
        logger.critical("%s no longer works in this process, so it ends. Restart Triton", device, exc_info=True)
    else:
        return
    before()
    os._exit(EXIT_STATUS)  # not `sys.exit`, which would only end this thread
