# SPDX-License-Identifier: Apache-2.0
"""The folder of the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
