# SPDX-License-Identifier: Apache-2.0
"""CPU and latency of the frontend, compared with alternatives in front of Triton. See README.md."""
