# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware. Never Starlette's `BaseHTTPMiddleware`, which would hide a disconnect from endpoints.

This room owns what happens to a request before its route is found. It must not know models or Triton.

| module | its one job |
| --- | --- |
| `stack` | which middleware the settings ask for, and in which order |
| `request_recording` | request id, times, `Server-Timing`; calls metrics and access log at the end |
| `proxy_headers` | the client's address from trusted proxies |
| `allowed_hosts` | refuses unknown `Host` headers |
| `security_headers` | headers that protect browsers |
| `auth/` | API keys, scopes and rate limits |
| `deadline` | `X-Request-Timeout` |
| `max_body_size` | refuses bodies that are too large or compressed |
| `head_requests` | HEAD as GET without the body |
| `shutdown` | refuses new work while shutting down |
| `dispatch` | calls declared endpoints and `/v2` by their path, ahead of the router |
"""
