# SPDX-License-Identifier: Apache-2.0
"""Connections to Triton: opened, kept, shared and closed. Knows HTTP, and nothing of models."""
