# SPDX-License-Identifier: Apache-2.0
"""Pure ASGI middleware. Never a BaseHTTPMiddleware of Starlette: it would hide a disconnect from endpoints."""
