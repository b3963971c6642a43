# SPDX-License-Identifier: Apache-2.0
"""Replicas that a load needs, and their latencies: a queueing model, checked against a simulation and measurements."""
