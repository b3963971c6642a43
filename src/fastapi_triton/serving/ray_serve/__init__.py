# SPDX-License-Identifier: Apache-2.0
"""More than one machine: the frontend and its Tritons as a Ray Serve application. Needs the extra `cluster`.

A request takes a lease, a Serve call that returns a Triton's URL and lasts as long as the request. The request itself
goes to that Triton over HTTP.

| module | its one job |
| --- | --- |
| `application`, `options` | what a Serve config file names; its arguments |
| `frontend`, `ingress` | loads the app as the ingress; its shutdown below Ray's proxy |
| `replica`, `gpus` | the process that owns one Triton; how many GPUs there are |
| `client` | `ClusterTriton`, the `TritonClient` that takes leases; knows nothing of Ray |
| `lease_watch` | ends leases whose frontend has died |
| `cold_start` | how long a Triton takes to come |
| `local`, `environment` | `serve --cluster`; Ray's variables and logging |
"""
