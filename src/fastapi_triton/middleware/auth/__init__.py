# SPDX-License-Identifier: Apache-2.0
"""Who may call, and how often: API keys, scopes and rate limits.

| module | its one job |
| --- | --- |
| `authentication` | the middleware: finds the client, checks its scope and rate |
| `credentials` | the key in a request's headers, and the 401 without one |
| `keys`, `key_file` | the known keys, hashed, and the file that they are in |
| `scopes` | which scope a path needs |
| `rate_limit` | a token bucket |
| `anonymous_clients` | clients without a key |
| `openapi` | keys in the OpenAPI document |
"""
