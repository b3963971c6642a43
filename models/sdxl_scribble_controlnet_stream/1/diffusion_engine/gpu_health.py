# SPDX-License-Identifier: Apache-2.0
"""Ends the process if its GPU no longer works.

After errors such as an illegal memory access, all later work on the GPU fails until the process ends. The frontend
notices the end of Triton's stub process; it does not notice an engine that fails every request.
"""

import logging
import os

import torch

logger = logging.getLogger(__name__)

EXIT_STATUS = 70  # EX_SOFTWARE


def end_process_if_broken(device: torch.device) -> None:
    """Run a tiny computation on the device. End this process if the device rejects it; does nothing for a CPU."""
    if device.type == "cpu":
        return
    try:
        torch.zeros(1, device=device).tolist()
    except torch.OutOfMemoryError:
        return
    except torch.AcceleratorError:
        logger.critical("%s no longer works in this process, so it ends. Restart Triton", device, exc_info=True)
    else:
        return
    os._exit(EXIT_STATUS)  # not `sys.exit`, which would only end this thread
