# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Images API: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

This package owns OpenAI's field names and formats. `routes` serves the requests, `schemas` translates their fields, and
`errors` writes errors in OpenAI's format.
"""
