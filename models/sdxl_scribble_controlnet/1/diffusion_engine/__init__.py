# SPDX-License-Identifier: Apache-2.0
"""Turns a scribble and a prompt into a picture. Knows nothing of Triton or of HTTP; `model.py` joins it to Triton."""
