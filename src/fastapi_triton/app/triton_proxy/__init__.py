# SPDX-License-Identifier: Apache-2.0
"""Triton's own protocol under `/v2`, passed through unchanged, with the frontend's limits.

Some malformed requests kill Triton 2.51, so the proxy reads and checks each request completely before it sends it on.

| module | purpose |
| --- | --- |
| `endpoint` | the ASGI endpoint |
| `routes` | the routes that the proxy passes on, by kind |
| `request_head`, `request_body` | the headers that Triton gets; the body, decompressed and checked |
| `inference_request` | shapes, sizes and parameters, compared with the data and the model config |
| `json_outline` | JSON of any size, parsed without its large values |
| `model_configs` | the model configs, cached for a few seconds |
| `response`, `silent_stream` | Triton's response, or an error in Triton's format; heartbeats on a stream that waits |
"""
