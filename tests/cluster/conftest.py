# SPDX-License-Identifier: Apache-2.0
"""Clusters on this machine. Ray Serve is the extra `cluster`; without it the modules that need it are skipped."""

from collections.abc import Iterator

import pytest
from clusters import ClusterServer, cluster
from serving import COUNT_APP, ECHO_APP


@pytest.fixture(scope="module")
def count_server() -> Iterator[ClusterServer]:
    """In front of a decoupled model, on two Tritons."""
    with cluster(COUNT_APP) as server:
        yield server


@pytest.fixture(scope="module")
def echo_cluster() -> Iterator[ClusterServer]:
    """For a test that kills parts of it."""
    with cluster(ECHO_APP, "--watch-interval-s", "0.5") as server:
        yield server
