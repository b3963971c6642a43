# SPDX-License-Identifier: Apache-2.0
"""The CPU that our code saves compared with code of a library or framework that does the same."""
