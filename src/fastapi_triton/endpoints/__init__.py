# SPDX-License-Identifier: Apache-2.0
"""Endpoints: requests in JSON or forms → a model's tensors → responses in JSON, pictures or events.

This package owns the request pipeline, the codec between JSON values and tensors, and the two kinds of endpoints:
declared by pydantic models, and generated from model configs. It must not know who the client is (`middleware`), how to
connect to Triton (`triton.transport`), or the picture APIs, jobs and `/v2` that are built on it.

| module | purpose |
| --- | --- |
| `pipeline` | the stages of a request, for all API families |
| `interfaces` | types that API families and jobs share: services, progress events, listeners |
| `request_body/` | reads and validates bodies |
| `json_codec` | one JSON value or field value ↔ one tensor |
| `binary_arrays` | arrays in base64: `.npy` files and raw bytes |
| `value_errors` | the problems of one value, each with its location in the value |
| `images` | checks pictures in requests, without decoding them |
| `image_tensors` | picture files ↔ tensors of pixels |
| `image_files/` | the structure of image files |
| `annotations` | the values that a pydantic field accepts |
| `fields` | the tensor of a field; renames tensors to fields in errors |
| `content_negotiation` | the media type that the client accepts |
| `query_options` | the options in a request's URL |
| `responses` | a model's outputs → JSON, or the picture itself |
| `sse` | server-sent events with heartbeats |
| `openapi` | the parts of the OpenAPI document that all families share |
| `request_example` | a request that an endpoint accepts, for the OpenAPI document |
| `seeds` | draws seeds |
| `declared/`, `generated/` | the two kinds of endpoints |
"""
