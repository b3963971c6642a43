# SPDX-License-Identifier: Apache-2.0
"""The page at `/`: draw, describe, watch the picture come. Plain HTML, CSS and ES modules in `static/`, no build step."""
