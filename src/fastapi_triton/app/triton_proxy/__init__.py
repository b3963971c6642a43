# SPDX-License-Identifier: Apache-2.0
"""Triton's own protocol under `/v2`, byte for byte, under the limits that hold for all requests.

Some malformed requests kill Triton 2.51, so each is read whole and checked first.

| module | its one job |
| --- | --- |
| `endpoint` | the ASGI endpoint |
| `routes` | what a path asks of Triton, and which scope that needs |
| `request_head`, `request_body` | headers that go on; a body, unpacked and checked |
| `inference_request` | shapes, sizes and parameters, compared with the data and the model config |
| `json_outline` | JSON of any size, parsed without its large values |
| `model_configs` | the configs, remembered for a few seconds |
| `response`, `silent_stream` | Triton's response or an error in its form; comments on a stream that waits |
"""
