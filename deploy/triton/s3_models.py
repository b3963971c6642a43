# SPDX-License-Identifier: Apache-2.0
"""Brings models from S3 before Triton starts. It finds the package's part for that beside itself, and only that."""

from fastapi_triton.embedded.s3_repository.__main__ import main

if __name__ == "__main__":
    main()
