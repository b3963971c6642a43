# SPDX-License-Identifier: Apache-2.0
"""Which requests may go to a model now, which wait for it, and which are refused."""
