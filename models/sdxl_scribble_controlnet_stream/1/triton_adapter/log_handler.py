# SPDX-License-Identifier: Apache-2.0
"""Writes the engine's log lines to Triton's log. Python alone would write warnings only, and without their level."""

import logging

import triton_python_backend_utils as pb_utils


class TritonLogHandler(logging.Handler):
    """Passes on log records, with the level that is nearest among Triton's."""

    @classmethod
    def install(cls) -> None:
        """Log the engine's lines from the level INFO, in this process."""
        logger = logging.getLogger("diffusion_engine")
        logger.setLevel(logging.INFO)
        logger.handlers = [cls()]

    def emit(self, record: logging.LogRecord) -> None:
        write = pb_utils.Logger.log_info
        if record.levelno >= logging.WARNING:
            write = pb_utils.Logger.log_warn if record.levelno < logging.ERROR else pb_utils.Logger.log_error
        write(self.format(record))
