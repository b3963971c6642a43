# SPDX-License-Identifier: Apache-2.0
"""Runs the app as a server: sockets, HTTP/1.1 with limits, worker processes. It must not know models or endpoints.

| module | purpose |
| --- | --- |
| `run` | runs the server, and the embedded Triton beside it |
| `server` | uvicorn with a graceful shutdown |
| `http_protocol`, `request_cycle` | uvicorn's HTTP/1.1 with limits; one request and its response |
| `request_reader`, `upgrades` | feeds the parser in slices; requests that ask for `Upgrade: h2c` |
| `connection_watch` | the time limits of connections, by one timer |
| `refusals` | error responses without the app: unreadable requests, too many connections |
| `supervisor`, `worker` | runs several worker processes on one port; one worker |
| `readiness_log` | logs when the app becomes ready or unready |
| `listen_address`, `process_limits` | the listening socket; limits for open files and memory |
| `ray_serve` | the app as a Ray Serve application |
"""
