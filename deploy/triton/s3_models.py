# SPDX-License-Identifier: Apache-2.0
"""Downloads models from S3 before Triton starts. Only that part of the package is beside this file."""

from fastapi_triton.embedded.s3_repository.__main__ import main

if __name__ == "__main__":
    main()
