# SPDX-License-Identifier: Apache-2.0
"""The engine against the stock diffusers pipeline, on the same jobs: `python -m benchmarks.engine`."""
