# SPDX-License-Identifier: Apache-2.0
"""The machine of the tests of `scripts/setup`."""

from pathlib import Path

import pytest

from support import bare_machine
from support.bare_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return bare_machine.make(tmp_path)
