# SPDX-License-Identifier: Apache-2.0
"""Picture APIs: what programs written for other servers speak, translated to one declared endpoint that draws.

This room owns the translations. It must not know Triton: it runs the endpoint's stream model.

| module | its one job |
| --- | --- |
| `routes` | adds the APIs that are switched on |
| `text_to_image` | the endpoint as these APIs see it: sizes, seeds, several pictures at once |
| `previews` | a model's preview → a picture of a given size and format |
| `openai/`, `a1111/` | the two APIs |
| `playground/` | the page at `/` |
"""
