# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for inputs and outputs."""

from config_cases.case import Case, inert

CASES = [
    Case("complete", inert()),
]
