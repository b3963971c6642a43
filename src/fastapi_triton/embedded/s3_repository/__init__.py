# SPDX-License-Identifier: Apache-2.0
"""A model repository in S3, brought to this machine. Needs the extra `s3`, and nothing else of this package.

The Triton image has this folder alone, so its modules import each other and boto3, and no FastAPI. boto3 has the whole
credential chain and errors with codes; awscrt has the CRC64NVME that S3 keeps of new objects. boto3's own transfers
resume nothing and check no whole file, so those two are ours.

| module | purpose |
| --- | --- |
| `fetch`, `__main__` | all of it in order, under a lock; the command of the image's entrypoint |
| `location`, `client` | `s3://bucket/prefix`; a boto3 client by AWS's chain |
| `inventory` | one listing, and which keys can be files of a model repository |
| `staging`, `transfer` | finished pieces stay on disk; many at once, with retries |
| `checksums` | the checksum that S3 has of an object, compared with the file's |
| `snapshots` | whole versions: put together aside, switched to at once, held while used, pruned |
| `errors`, `error_mapping` | the package's error, without secrets; what boto3 and the disk raise, as one sentence |
"""
