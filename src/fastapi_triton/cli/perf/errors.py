# SPDX-License-Identifier: Apache-2.0
"""Why a measurement cannot be made; the text is for a person."""


class PerfError(Exception):
    """What was asked for cannot be measured: a missing file, an unknown input, no binary."""


class AnalyzerError(PerfError):
    """perf_analyzer ran, and failed."""
