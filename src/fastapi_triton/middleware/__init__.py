# SPDX-License-Identifier: Apache-2.0
"""Pure ASGI only: Starlette's BaseHTTPMiddleware would hide a caller's leaving from the endpoint."""
