# SPDX-License-Identifier: Apache-2.0
"""The page at `/`: draw a scribble, describe it, and watch it become a picture.

`page` serves it, and `examples` makes its example scribbles. `static/` is plain HTML, CSS and ES modules, without a
build step.
"""
