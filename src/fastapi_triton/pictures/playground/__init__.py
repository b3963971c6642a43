# SPDX-License-Identifier: Apache-2.0
"""The page at `/`: draw, describe, watch the picture come. `static/` is plain HTML, CSS and ES modules, never built."""
