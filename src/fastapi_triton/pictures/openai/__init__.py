# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Images API: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

This room owns OpenAI's names and forms. `routes` serves the requests, `schemas` translates their fields, and
`errors` writes errors as OpenAI's clients read them.
"""
