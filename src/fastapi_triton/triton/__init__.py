# SPDX-License-Identifier: Apache-2.0
"""The Triton client: a protocol (`client`), the real one over HTTP (`http`), and the fake that tests use (`fake`)."""
