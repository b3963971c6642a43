# SPDX-License-Identifier: Apache-2.0
"""Connections to Triton: HTTP/1.1 and connection pooling. This package must not know models.

| module | purpose |
| --- | --- |
| `pool` | `exchange()`: one request and its response on a pooled connection |
| `connection` | the HTTP/1.1 client of one connection, a state machine |
| `connector` | opens a connection, and retries, because nothing was sent yet |
| `circuit_breaker`, `health_check` | rejects requests while Triton does not respond; detects when it is back |
| `tcp_keepalive` | detects dead connections |
| `address`, `credentials`, `tls` | the URL; certificates, token and headers; TLS and its errors |
| `errors` | connection failures as errors for clients |
"""
