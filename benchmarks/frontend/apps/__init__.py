# SPDX-License-Identifier: Apache-2.0
"""The apps of ours and of the peers. Each runs as a process of its own and takes the same request."""
