# SPDX-License-Identifier: Apache-2.0
"""Live mode in a real Chromium: how soon the picture follows the pen, and what superseded pictures cost.

| module | purpose |
| --- | --- |
| `__main__` | starts the server, measures, prints |
| `drawing` | draws strokes on the page, and times what it shows |
| `server` | the embedded server, and its counter of passes |
"""
