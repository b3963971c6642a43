# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints: one for every model that Triton has, made from the model's config.

This package owns the translation by config alone. It must not know the pydantic models of an app.

| module | purpose |
| --- | --- |
| `endpoint` | all routes under `/models`: requests in the pipeline's stages |
| `infer_path` | the URL of an endpoint, and the options of its query |
| `models` | the models that have an endpoint, from the registry |
| `obstacles` | why a model has no endpoint |
| `codec` | a JSON body ↔ requests to Triton |
| `rows` | a JSON body → the arrays of each object in it |
| `batches` | rows ↔ the tensors of requests to Triton |
| `pictures` | a request's options for pictures: normalization, PNG |
| `forms` | a form with picture files → the JSON body of an equal request |
| `classification` | the query option `classes` |
| `sequences` | the fields of a sequence |
| `schemas` | a tensor as JSON Schema, and an example |
| `openapi` | the operations of all models |
"""
