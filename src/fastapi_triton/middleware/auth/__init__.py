# SPDX-License-Identifier: Apache-2.0
"""Who may call, and how often: API keys and their scopes, rate limits, hosts, origins, what a proxy says of callers."""
