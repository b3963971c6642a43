# SPDX-License-Identifier: Apache-2.0
"""The cost of one hostile client: the frontend's memory, and the time for which it blocks the event loop."""
