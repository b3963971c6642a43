# SPDX-License-Identifier: Apache-2.0
"""The CPU and latency of the frontend, against other ways to put HTTP in front of Triton. See README.md."""
