# SPDX-License-Identifier: Apache-2.0
"""The CPU that our code gains where a library, or a framework's own way, does the same."""
