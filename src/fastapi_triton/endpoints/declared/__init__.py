# SPDX-License-Identifier: Apache-2.0
"""Declared endpoints: two pydantic models whose fields are the tensors of a Triton model.

This package owns the declaration, its comparison with the model's config, and the stream model. It must not know JSON:
`request_body` reads it into fields, and `responses` writes it.

| module | purpose |
| --- | --- |
| `endpoint` | a route: its requests in the pipeline's stages |
| `model` | runs the model once: a response or events |
| `similar_models` | the models in Triton that can do the work of a declared one |
| `stream_model` | the decoupled model of an endpoint: events, description, availability |
| `declaration` | the endpoint's model configs, and whether it fits them |
| `contract` | finds every mismatch between a declaration and a config |
| `tensors` | fields → input tensors; output tensors → fields |
| `functions` | an app's own function around the model |
| `openapi` | the operation of an endpoint |
"""
