# SPDX-License-Identifier: Apache-2.0
"""Image files as bytes: what they hold and how much work they make, read without decoding them.

The frontend and the engine each have this package, byte for byte, since neither may import the other.
"""
