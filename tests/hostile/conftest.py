# SPDX-License-Identifier: Apache-2.0
"""The hostile suite: requests that once killed, starved or misled the frontend or Triton, and their siblings.

Quick cases run in `make test`. Cases marked `slow` run in `make test-hostile`, `make test-all` and CI.
"""
