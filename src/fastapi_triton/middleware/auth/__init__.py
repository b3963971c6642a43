# SPDX-License-Identifier: Apache-2.0
"""Authentication: API keys, scopes and rate limits.

| module | purpose |
| --- | --- |
| `authentication` | the middleware: identifies the caller, checks its scopes and rate limit |
| `credentials` | the key in a request's headers, and the 401 response |
| `keys`, `key_file` | the known keys, hashed, and the file that holds them |
| `scopes` | the scopes, and the scope that a path needs |
| `rate_limit` | a token bucket |
| `anonymous_clients` | callers without a key |
| `openapi` | keys in the OpenAPI document |
"""
