# SPDX-License-Identifier: Apache-2.0
"""Routes that come with the frontend, one file per family."""
