# SPDX-License-Identifier: Apache-2.0
"""The compared apps. Each runs as a process of its own and serves the same request."""
