# SPDX-License-Identifier: Apache-2.0
"""The demo checkpoint: its training pictures, its training and its evaluation."""
