# SPDX-License-Identifier: Apache-2.0
"""Running the app as a server: sockets, HTTP/1.1 with limits, worker processes. It must not know models or endpoints.

| module | its one job |
| --- | --- |
| `run` | one run: the server, and the embedded Triton beside it |
| `server` | uvicorn with a graceful end |
| `http_protocol`, `request_cycle` | uvicorn's HTTP/1.1 with limits; one request and its response |
| `request_reader`, `upgrades` | feeds the parser in slices; requests that ask for `Upgrade: h2c` |
| `connection_watch` | one timer for all connections |
| `refusals` | responses without the app: unreadable requests, too many connections |
| `supervisor`, `worker` | several processes on one port; one of them |
| `readiness_log` | logs when the app becomes ready or unready |
| `listen_address`, `process_limits` | the socket and who can reach it; open files and memory |
| `ray_serve` | the app as a Ray Serve application |
"""
