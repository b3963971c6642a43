# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware: what happens to a request before its route is found. It must not know models or Triton.

Do not use Starlette's `BaseHTTPMiddleware` here: it would hide a disconnect from endpoints.

| module | purpose |
| --- | --- |
| `stack` | the middleware that the settings enable, and its order |
| `request_recording` | request id, times, `Server-Timing`; passes the record to metrics and access log |
| `proxy_headers` | the client's address from trusted proxies |
| `allowed_hosts` | rejects unknown `Host` headers |
| `security_headers` | headers that protect browsers |
| `auth/` | API keys, scopes and rate limits |
| `deadline` | `X-Request-Timeout` |
| `max_body_size` | rejects bodies that are too large or compressed |
| `head_requests` | runs HEAD as GET without the body |
| `shutdown` | rejects new work while the server shuts down |
| `dispatch` | calls declared endpoints and `/v2` by their path, before the router |
"""
