# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Images API, translated to and from the endpoint that draws."""
