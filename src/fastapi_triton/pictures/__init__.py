# SPDX-License-Identifier: Apache-2.0
"""APIs for models that draw: OpenAI, A1111 and the playground, all translated to one declared endpoint."""
