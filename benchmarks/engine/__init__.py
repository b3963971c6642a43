# SPDX-License-Identifier: Apache-2.0
"""The engine compared with the stock diffusers pipeline on the same requests: `python -m benchmarks.engine`."""
