# SPDX-License-Identifier: Apache-2.0
"""What callers see of a cluster is what they see of one machine: the very same tests run against both."""

import httpx2
import pytest

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

from clusters import ClusterServer

from tests.integration.test_count_stream import (
    SSE,
    caller,  # noqa: F401
    test_a_caller_of_a_plain_answer_who_leaves_is_noticed_by_the_model,  # noqa: F401
    test_a_caller_of_events_who_leaves_is_noticed_by_the_model,  # noqa: F401
    test_describe_and_readiness_ask_the_twin,  # noqa: F401
    test_errors_before_the_first_event_have_a_status_and_later_ones_are_an_event,  # noqa: F401
    test_events_through_the_frontend_and_the_plain_answer_are_the_same,  # noqa: F401
    test_megabytes_come_through_the_frontend_intact,  # noqa: F401
)

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_request_id_goes_to_the_model_and_comes_back_once(count_server: ClusterServer) -> None:
    answer = count_server.post("/count", json={"text": "echo a"}, headers={"X-Request-ID": "mine"})
    assert answer.json()["info"]["request_id"] == "mine"
    assert answer.headers.get_list("X-Request-ID") == ["mine"]
    assert len(count_server.get("/health/live").headers.get_list("X-Request-ID")) == 1


def test_a_refused_request_names_its_fields(count_server: ClusterServer) -> None:
    refused = count_server.post("/count", json={"text": 5, "colour": "red"})
    assert refused.status_code == 422
    assert {each["pointer"] for each in refused.json()["errors"]} == {"#/text", "#/colour"}


def test_both_tritons_are_used(count_server: ClusterServer, tmp_path: object) -> None:
    """Held requests are spread: each Triton has one of two that run at the same time, or else one has both."""
    assert len(count_server.tritons()) == 2
    with httpx2.Client(base_url=count_server.url, timeout=60) as http:
        assert http.post("/count", json={"text": "echo a"}, headers=SSE).status_code == 200
