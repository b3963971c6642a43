# SPDX-License-Identifier: Apache-2.0
"""The FastAPI application: `TritonFrontend` joins the rooms below it. Knows no socket and no process.

- `frontend`: `TritonFrontend`, with `infer`, its middleware, its lifespan and the OpenAPI document
- `health`, `model_routes`, `metrics_route`: `/health`, `/models`, `/metrics`
- `state_gauges`: the app's own state as Prometheus sees it
- `loader`: finds the app that the command line names
- `triton_proxy/`: `/v2`
"""
