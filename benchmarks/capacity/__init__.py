# SPDX-License-Identifier: Apache-2.0
"""Compute the replicas that a load needs, and their latencies, with a queueing model. See README.md."""
