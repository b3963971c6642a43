# SPDX-License-Identifier: Apache-2.0
"""Endpoints that an app declares with Pydantic models, held to the config of their model."""
