# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion web UI's `/sdapi/v1`, translated to and from the endpoint that draws."""
