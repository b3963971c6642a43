# SPDX-License-Identifier: Apache-2.0
"""What stands between the engine and Triton's Python backend: answers, callers who leave, metrics."""
