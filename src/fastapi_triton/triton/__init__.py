# SPDX-License-Identifier: Apache-2.0
"""Triton: its models, datatypes and errors, and a client for its HTTP protocol."""
