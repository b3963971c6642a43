# SPDX-License-Identifier: Apache-2.0
"""Triton: its models, datatypes and errors, and a client for its HTTP protocol.

This package must not know endpoints, the clients of the frontend, or FastAPI.

| module | purpose |
| --- | --- |
| `client` | the `TritonClient` protocol, and the default client of an app |
| `http_client` | that protocol over HTTP |
| `generate_stream` | one request to `/generate_stream` |
| `grpc_stream`, `grpc_codec` | streams that HTTP cannot carry, over gRPC; its messages |
| `infer_codec`, `generate_codec` | the bodies of `/infer`; the JSON of `/generate_stream` |
| `tensor`, `datatypes` | one tensor; the table of datatypes |
| `model_config` | a model config as plain data |
| `image_dims` | which tensors hold pictures |
| `config_text` | reads a `config.pbtxt` without a server |
| `pbtxt_parser`, `pbtxt_tokenizer` | its text format, as Triton parses it |
| `model_registry` | polls Triton, caches model configs, notifies subscribers |
| `model_health`, `process_check` | Python models whose stub process died; requests their state from Triton |
| `error_mapping`, `model_errors` | errors of Triton, of a proxy in front of it, and of models, as errors for clients |
| `transport` | connections |
"""
