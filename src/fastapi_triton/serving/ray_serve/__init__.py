# SPDX-License-Identifier: Apache-2.0
"""Runs the frontend and its Tritons on several machines, as a Ray Serve application. Needs the extra `cluster`.

Each request takes a lease: a Ray Serve call that returns the URL of a Triton and lasts as long as the request. The
request itself goes to that Triton over HTTP.

| module | purpose |
| --- | --- |
| `application`, `options` | the application that a Serve config file names; its arguments |
| `frontend`, `ingress` | loads the app as the ingress; shuts the app down below Ray's proxy |
| `replica`, `gpus` | the process that owns one Triton; the number of GPUs |
| `client` | `ClusterTriton`, the `TritonClient` that takes leases; it does not depend on Ray |
| `lease_watch` | ends leases whose frontend has died |
| `cold_start` | estimates how long a Triton takes to start |
| `local`, `environment` | `serve --cluster`; Ray's variables and logging |
"""
