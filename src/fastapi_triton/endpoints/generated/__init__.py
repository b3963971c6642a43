# SPDX-License-Identifier: Apache-2.0
"""Endpoints made from the model configs that Triton serves."""
