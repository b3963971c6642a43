# SPDX-License-Identifier: Apache-2.0
"""Typed, documented HTTP endpoints in front of NVIDIA Triton Inference Server."""

from fastapi_triton.app import TritonFrontend
from fastapi_triton.fields import TensorName
from fastapi_triton.functions import BlockingInfer, Infer
from fastapi_triton.images import Base64Image
from fastapi_triton.settings import Settings

__all__ = ["Base64Image", "BlockingInfer", "Infer", "Settings", "TensorName", "TritonFrontend"]
