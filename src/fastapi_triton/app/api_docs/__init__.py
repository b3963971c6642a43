# SPDX-License-Identifier: Apache-2.0
"""`/docs`: Swagger UI without another host.

| module | purpose |
| --- | --- |
| `routes` | the page and its files; those of Swagger UI come from a Python package |

`start.js` starts Swagger UI in the browser.
"""
