# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Images API: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

This package owns OpenAI's field names and formats.

| module | purpose |
| --- | --- |
| `routes` | serves the requests |
| `schemas` | their fields |
| `model_names` | the model for a name, which may be one of OpenAI's |
| `planning` | translates the fields to the endpoint's, and plans the pictures and the response |
| `edits` | which picture of an edit is the scribble, and which the picture to change |
| `image_urls` | pictures of requests as URLs: fetched from public addresses only |
| `fetch_slots` | how many pictures are fetched at once, and for one caller |
| `picture_urls`, `picture_store` | signed URLs of pictures; the pictures on disk until they expire |
| `errors` | errors in OpenAI's format |
"""
