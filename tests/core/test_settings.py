# SPDX-License-Identifier: Apache-2.0
"""The environment variables of settings."""

import logging

import pytest

from fastapi_triton import TritonFrontend
from fastapi_triton.core.settings import Settings
from fastapi_triton.serving.ray_serve.options import ClusterOptions, frontend_variables


@pytest.mark.parametrize("name", ["TRITON_TOKEN", "FASTAPI_TRITON_TRITON_TOKEN"])
def test_a_setting_about_triton_is_read_from_its_new_and_its_old_variable(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "s3cret")
    token = Settings().triton_token
    assert token
    assert token.get_secret_value() == "s3cret"


def test_the_new_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_TRITON_TRITON_URL", "http://old:8000")
    monkeypatch.setenv("TRITON_URL", "http://new:8000")
    assert Settings().triton_url == "http://new:8000"


def test_an_old_variable_logs_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("FASTAPI_TRITON_TRITON_TOKEN", "s3cret")
    with caplog.at_level(logging.WARNING):
        TritonFrontend()
    assert caplog.messages == [
        "FASTAPI_TRITON_TRITON_TOKEN is now called TRITON_TOKEN. The next release ignores the old name."
    ]


@pytest.mark.parametrize("name", ["TRITON_TOKEN", "FASTAPI_TRITON_TRITON_TOKEN"])
def test_frontends_in_a_cluster_get_both_variables(name: str) -> None:
    variables = frontend_variables({name: "s3cret", "TRITON_URL": "http://elsewhere:8000", "PATH": "/bin"})
    assert variables == {name: "s3cret"}
    token = ClusterOptions(settings=variables).frontend_settings.triton_token
    assert token
    assert token.get_secret_value() == "s3cret"
