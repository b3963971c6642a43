# SPDX-License-Identifier: Apache-2.0
"""Typed, documented HTTP endpoints in front of NVIDIA Triton Inference Server."""

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints.declared.functions import BlockingInfer, Infer
from fastapi_triton.endpoints.fields import TensorName
from fastapi_triton.endpoints.images import Base64Image

__all__ = ["Base64Image", "BlockingInfer", "Infer", "Settings", "TensorName", "TritonFrontend"]
