# SPDX-License-Identifier: Apache-2.0
"""Checks of `/v2` requests before they go to Triton, which some malformed requests kill."""
