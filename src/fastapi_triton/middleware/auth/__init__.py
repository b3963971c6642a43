# SPDX-License-Identifier: Apache-2.0
"""Who may call, and how often: API keys, scopes and rate limits."""
