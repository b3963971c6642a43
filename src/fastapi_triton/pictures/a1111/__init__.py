# SPDX-License-Identifier: Apache-2.0
"""A1111's API: `/sdapi/v1/txt2img` and `img2img`, their progress, and the lists that clients request before.

This package owns A1111's field names and formats.

| module | purpose |
| --- | --- |
| `routes` | serves `txt2img`, `img2img`, their progress and `interrupt` |
| `discovery` | `options`, `png-info`, and the lists that clients request first |
| `controlnet_routes` | the routes of the ControlNet extension |
| `gradio_routes` | routes of A1111's page that older clients request |
| `schemas` | the fields of both, translated to the endpoint's fields |
| `img2img` | the fields of `img2img` beside those: the picture to change, and the mask |
| `saved_values` | null and texts such as "None", which A1111 saves for defaults |
| `unserved` | A1111's other fields, with their neutral values |
| `alwayson_scripts` | the scripts of a request: ControlNet's units, and those that must be off |
| `controlnet` | the ControlNet unit with the scribble |
| `samplers` | translates samplers and noise schedules to schedulers, and back |
| `checkpoints` | the checkpoints by name, and the one that a client has chosen |
| `options` | A1111's settings, as far as there are some |
| `tasks` | the running requests; only their own client can watch and interrupt them |
| `progress` | the responses with a task's progress |
| `processed` | the response with the pictures |
| `infotext` | A1111's text with prompts and parameters: written and read |
| `png_info` | the texts in picture files |
| `errors` | errors with A1111's field names |
"""
