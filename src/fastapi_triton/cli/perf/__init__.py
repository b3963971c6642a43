# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton perf`: NVIDIA's perf_analyzer against Triton and through the frontend, side by side."""
