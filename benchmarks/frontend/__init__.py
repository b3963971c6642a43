# SPDX-License-Identifier: Apache-2.0
"""What the frontend costs, against other ways to put HTTP in front of a Triton. See README.md."""
