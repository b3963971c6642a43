# SPDX-License-Identifier: Apache-2.0
"""Endpoints in front of Triton models: request bodies in, responses and server-sent events out."""
