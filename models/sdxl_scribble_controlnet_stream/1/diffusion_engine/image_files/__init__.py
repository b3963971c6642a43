# SPDX-License-Identifier: Apache-2.0
"""Image files as bytes: what they hold and how much work they make, read without decoding them.

The frontend and the engine each have these modules, byte for byte, since neither may import the other. TIFF is read by
the engine alone.
"""
