# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Images API: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

This package owns OpenAI's field names and formats.

| module | purpose |
| --- | --- |
| `routes` | serves the requests |
| `schemas` | translates their fields to the endpoint's |
| `edits` | which picture of an edit is the scribble, and which the picture to change |
| `image_urls` | pictures of requests as URLs: fetched from public addresses only |
| `picture_urls`, `picture_store` | signed URLs of pictures; the pictures on disk until they expire |
| `errors` | errors in OpenAI's format |
"""
