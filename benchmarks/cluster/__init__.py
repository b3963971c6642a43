# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster: its throughput, its overhead, and the responses while nodes die. Needs the extra `cluster`."""
