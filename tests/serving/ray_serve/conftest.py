# SPDX-License-Identifier: Apache-2.0
"""Clusters on this machine. Tests marked `cluster` need Ray Serve, the extra `cluster`."""

from collections.abc import Iterator

import pytest
from clusters import ClusterServer, ray_nodes

from support.serving import COUNT_APP, ECHO_APP


@pytest.fixture(scope="module")
def count_server() -> Iterator[ClusterServer]:
    """A frontend for a decoupled model on two Tritons."""
    with ray_nodes(COUNT_APP) as server:
        yield server


@pytest.fixture(scope="module")
def echo_cluster() -> Iterator[ClusterServer]:
    """Two Tritons on two nodes, which the tests kill one after the other. The model's queue holds only two requests."""
    with ray_nodes(ECHO_APP, max_in_flight_per_triton=2) as server:
        yield server
