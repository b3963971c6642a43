# SPDX-License-Identifier: Apache-2.0
"""Declared endpoints: two pydantic models whose fields are the tensors of a Triton model.

This room owns the declaration, its check against the model's config, and the stream model. It must not know JSON:
`request_body` makes fields of it, and `responses` writes it.

| module | its one job |
| --- | --- |
| `endpoint` | a route: its request in the pipeline's stages |
| `model` | one run, or the events of one |
| `stream_model` | the decoupled model behind an endpoint: events, description, availability |
| `declaration` | the model configs that an endpoint relies on, and whether they fit |
| `contract` | every mismatch between a declaration and a config |
| `tensors` | fields → input tensors; output tensors → fields |
| `functions` | an app's own function around the model |
| `openapi` | the operation of an endpoint |
"""
