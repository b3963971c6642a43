# SPDX-License-Identifier: Apache-2.0
"""The FastAPI application: `TritonFrontend` joins the packages below it. It must not know sockets or processes.

| module | purpose |
| --- | --- |
| `frontend` | `TritonFrontend`: declared endpoints, middleware, lifespan, the OpenAPI document |
| `health`, `model_routes`, `metrics_route` | `/health`, `/models`, `/metrics` |
| `api_docs` | `/docs`: Swagger UI without another host |
| `state_gauges` | gauges of the app's state, for Prometheus |
| `loader` | finds the app that the command line names |
| `triton_proxy` | `/v2`: Triton's own protocol |
"""
