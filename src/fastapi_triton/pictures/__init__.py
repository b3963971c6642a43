# SPDX-License-Identifier: Apache-2.0
"""The OpenAI and A1111 image APIs, and the page: requests are translated for endpoints that make pictures.

This package owns the translations. It must not know Triton: it uses the endpoints' stream models.

| module | purpose |
| --- | --- |
| `routes` | adds the enabled APIs to the app |
| `picture_models` | the models that these APIs offer, by name |
| `loras` | LoRAs in A1111's tags and in names of OpenAI's models |
| `text_to_image` | the endpoint for these APIs: picture sizes, seeds, several pictures per request |
| `unserved_fields` | notes about fields that are not served, and about misspelled names |
| `previews` | converts a model's preview to a given size and format |
| `openai/`, `a1111/` | the two APIs |
| `playground/` | the page at `/` |
"""
