# SPDX-License-Identifier: Apache-2.0
"""Metrics, logs and traces: what an operator sees. Knows requests only by their records."""
