# SPDX-License-Identifier: Apache-2.0
"""Triton killed again and again under load: who is left without an answer, and how soon all is well again."""
