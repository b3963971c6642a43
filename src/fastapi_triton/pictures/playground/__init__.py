# SPDX-License-Identifier: Apache-2.0
"""The page at `/`: draw, describe, watch the picture come.

`page` serves it, `examples` makes the scribbles that it offers. `static/` is plain HTML, CSS and ES modules, without a
build step.
"""
