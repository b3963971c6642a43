# SPDX-License-Identifier: Apache-2.0
"""Downloads a model repository from S3. Needs the extra `s3`, and imports nothing else of fastapi_triton.

The Triton image has only this folder of the package, so its modules import each other and boto3, but not FastAPI. boto3
has the credential chain and errors with codes. awscrt computes CRC64NVME, the checksum that S3 stores for new objects.
boto3's own transfers neither resume nor check whole files, so `transfer` does both.

| module | purpose |
| --- | --- |
| `fetch`, `__main__` | runs all steps under a lock; the command for the image's entrypoint |
| `location`, `client` | parses `s3://bucket/prefix`; opens a boto3 client with AWS's credential chain |
| `inventory` | lists the bucket, and rejects keys that cannot be files of a model repository |
| `staging`, `transfer` | keeps finished pieces on disk; downloads pieces in parallel, with retries |
| `checksums` | compares a file with the checksum that S3 has of its object |
| `snapshots` | complete versions: builds, switches to, locks and prunes them |
| `errors`, `error_mapping` | the error of this package, without secrets; texts for errors of boto3 and the disk |
"""
