# SPDX-License-Identifier: Apache-2.0
"""Connections to Triton: opened, kept, shared and closed. It knows HTTP/1.1, and must not know models.

| module | its one job |
| --- | --- |
| `pool` | `exchange()`: one request and its response on a connection of its own |
| `connection` | the HTTP/1.1 client of one connection, a state machine |
| `connector` | opens a connection; it tries again, since nothing can have been sent |
| `circuit_breaker`, `health_check` | refuses at once while Triton is away; asks whether it is back |
| `tcp_keepalive` | notices dead connections |
| `address`, `credentials`, `tls` | the URL; certificates, token and headers; TLS and what is wrong with it |
| `errors` | connection failures as errors for clients |
"""
