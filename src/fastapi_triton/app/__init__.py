# SPDX-License-Identifier: Apache-2.0
"""The FastAPI application: wires the rooms below together, and adds `/health`, `/v1/models`, `/metrics` and `/v2`."""
