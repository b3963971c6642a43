# SPDX-License-Identifier: Apache-2.0
"""The `fastapi-triton` command."""
