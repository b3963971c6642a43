# SPDX-License-Identifier: Apache-2.0
"""What one hostile client costs the frontend: memory, and time of the event loop that all others share."""
