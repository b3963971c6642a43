# SPDX-License-Identifier: Apache-2.0
"""Connects the engine to Triton's Python backend: responses, cancellation, metrics, logs."""
