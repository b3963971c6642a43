# SPDX-License-Identifier: Apache-2.0
"""A1111's API: `/sdapi/v1/txt2img`, its progress, and what its clients ask before their first picture.

This room owns A1111's names and forms.

| module | its one job |
| --- | --- |
| `routes` | serves the requests |
| `schemas` | the fields of `txt2img` → the endpoint's |
| `controlnet` | the ControlNet unit that holds the sketch |
| `samplers` | samplers and noise schedules → schedulers |
| `tasks` | pictures at work, which only their client can watch and interrupt |
| `errors` | errors in the names that A1111's clients know |
"""
