# SPDX-License-Identifier: Apache-2.0
"""Routes that are not declared in `main.py`: one family of them per file."""
