# SPDX-License-Identifier: Apache-2.0
"""A model repository in S3, brought to this machine. Needs the extra `s3`, and nothing else of this package.

The Triton image has this folder alone, so its modules import each other and boto3, and no FastAPI.
"""
