# SPDX-License-Identifier: Apache-2.0
"""The demo checkpoint: how its pictures are drawn, how it is trained, and how it is judged."""
