# SPDX-License-Identifier: Apache-2.0
"""An app's knowledge of Triton's models, and the changes that it reports."""

import asyncio


class Changes:
    """Counts, and lets a test wait for one."""

    def __init__(self) -> None:
        self.num = 0
        self.came = asyncio.Event()

    def __call__(self) -> None:
        self.num += 1
        self.came.set()
