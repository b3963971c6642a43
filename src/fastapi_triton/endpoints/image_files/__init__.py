# SPDX-License-Identifier: Apache-2.0
"""Image files as bytes: reads their structure, and the cost of decoding them, without decoding them.

The frontend and the engine have equal copies of these modules, because neither may import the other. Only the engine
reads TIFF.
"""
