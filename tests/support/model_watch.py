# SPDX-License-Identifier: Apache-2.0
"""A model registry for tests, and the changes that it reports."""

import asyncio


class Changes:
    """Counts changes, and lets a test wait for one."""

    def __init__(self) -> None:
        self.num = 0
        self.came = asyncio.Event()

    def __call__(self) -> None:
        self.num += 1
        self.came.set()
