# SPDX-License-Identifier: Apache-2.0
"""A1111's API: `/sdapi/v1/txt2img` and `img2img`, their progress, and the lists that clients request before.

This package owns A1111's field names and formats.

| module | purpose |
| --- | --- |
| `routes` | serves the requests |
| `schemas` | the fields of both, translated to the endpoint's fields |
| `img2img` | the fields of `img2img` beside those: the picture to change, and the mask |
| `unserved` | A1111's other fields, with their neutral values |
| `controlnet` | the ControlNet unit with the scribble |
| `samplers` | translates samplers and noise schedules to schedulers |
| `checkpoints` | the checkpoints by name, and the one that a client has chosen |
| `tasks` | the running requests; only their own client can watch and interrupt them |
| `errors` | errors with A1111's field names |
"""
