# SPDX-License-Identifier: Apache-2.0
"""`/v2` with a real Triton: NVIDIA's clients work with the frontend's port."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http.aio
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from support.received_events import events_in
from support.serving import Server

pytestmark = pytest.mark.integration

VALUES = [bytes(range(256)), b"", b"a\x00\x00", "ä🏠".encode(), b"x" * 500_000]


@pytest.fixture(scope="module")
def client(echo_server: Server) -> Iterator[InferenceServerClient]:
    with contextlib.closing(InferenceServerClient(echo_server.url.removeprefix("http://"))) as open_client:
        yield open_client


def texts(*values: bytes, is_binary: bool = True) -> list[InferInput]:
    array = np.empty((len(values), 1), np.object_)
    array[:, 0] = values
    infer_input = InferInput("text", [len(values), 1], "BYTES")
    infer_input.set_data_from_numpy(array, binary_data=is_binary)
    return [infer_input]


def test_health_metadata_config_and_statistics(client: InferenceServerClient, echo_server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert not client.is_model_ready("nope")
    with contextlib.closing(InferenceServerClient(echo_server.triton_url)) as direct:
        assert client.get_server_metadata() == direct.get_server_metadata()
        assert client.get_model_metadata("echo") == direct.get_model_metadata("echo")
        assert client.get_model_config("echo", "1") == direct.get_model_config("echo", "1")
        assert client.get_model_repository_index() == direct.get_model_repository_index()
    assert client.get_inference_statistics("echo")["model_stats"][0]["name"] == "echo"


@pytest.mark.parametrize(
    "compression",
    [
        {},
        {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
    ],
)
def test_batch_of_bytes_of_every_kind_comes_back_unchanged(
    client: InferenceServerClient, compression: dict[str, str]
) -> None:
    result = client.infer("echo", texts(*VALUES), request_id="abc", **compression)
    assert result.as_numpy("text")[:, 0].tolist() == VALUES
    assert result.get_response()["id"] == "abc"


def test_json_in_both_directions(client: InferenceServerClient) -> None:
    outputs = [InferRequestedOutput("text", binary_data=False)]
    result = client.infer("echo", texts(b"aGk=", "hä🏠".encode(), is_binary=False), outputs=outputs)
    assert result.as_numpy("text")[:, 0].tolist() == ["aGk=", "hä🏠"]


def test_response_has_tritons_raw_bytes(echo_server: Server) -> None:
    body, length = InferenceServerClient.generate_request_body(texts(*VALUES))
    headers = {"Inference-Header-Content-Length": str(length)}
    responses = [
        httpx2.post(f"{url}/v2/models/echo/infer", content=bytes(body), headers=headers)
        for url in (f"http://{echo_server.triton_url}", echo_server.url)
    ]
    direct, through = responses
    assert through.content == direct.content
    ours = {"date", "server", "server-timing", "x-request-id"}
    assert {name: through.headers[name] for name in through.headers if name not in ours} == dict(direct.headers)


async def test_async_tritonclient_sends_concurrent_requests(echo_server: Server) -> None:
    # One runs and two wait. Triton's own queue rejects more.
    async with tritonclient.http.aio.InferenceServerClient(echo_server.url.removeprefix("http://")) as client:
        for size in (1, 1_000, 1_000_000):
            sent = [bytes([number]) * size for number in range(2)]
            results = await asyncio.gather(*(client.infer("echo", texts(value)) for value in sent))
            assert [result.as_numpy("text").item() for result in results] == sent


def test_errors_of_triton_keep_their_text_and_status(client: InferenceServerClient) -> None:
    for name, inputs, text, status in (
        ("nope", texts(b"a"), "unknown model: 'nope'", "404"),
        ("echo", texts(b"refuse"), "too_rude", "400"),
        ("echo", texts(b"fail"), "secret", "500"),
        ("echo", texts(*[b"a"] * 9), "must be <= 8", "400"),
    ):
        with pytest.raises(InferenceServerException, match=text) as rejected:
            client.infer(name, inputs)
        assert rejected.value.status() == status


def test_tritonclient_shows_errors_of_the_frontend(client: InferenceServerClient) -> None:
    for call in (
        lambda: client.unload_model("echo"),
        lambda: client.load_model("echo"),
        lambda: client.update_log_settings({"log_verbose_level": 1}),
        lambda: client.update_trace_settings("echo", {"trace_level": ["TIMESTAMPS"]}),
        lambda: client.register_system_shared_memory("a", "/a", 8),
        lambda: client.unregister_cuda_shared_memory(),
    ):
        with pytest.raises(InferenceServerException, match="--v2-admin") as rejected:
            call()
        assert rejected.value.status() == "403"
    with pytest.raises(InferenceServerException, match="over the limit of 20,971,520 bytes") as rejected:
        client.infer("echo", texts(b"x" * 21_000_000))
    assert rejected.value.status() == "413"
    assert client.is_model_ready("echo")


def test_curl_sends_its_body_after_100_continue(echo_server: Server, tmp_path: Path) -> None:
    request = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a" * 2_000_000]}]}
    (tmp_path / "body").write_text(json.dumps(request))
    url = f"{echo_server.url}/v2/models/echo/infer"
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "30", "--data-binary", f"@{tmp_path}/body", "-H", "Expect: 100-continue", url],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["outputs"][0]["data"] == ["a" * 2_000_000]


def events(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    return (event.data for event in events_in(response.iter_lines()))


def test_stream_events_arrive_as_they_are_made(count_server: Server, tmp_path: Path) -> None:
    url = f"{count_server.url}/v2/models/count_stream/generate_stream"
    with httpx2.stream("POST", url, json={"text": f"hold {tmp_path}"}, timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        received = events(response)
        assert next(received)["event"] == "queued"
        (tmp_path / "go").touch()
        assert [each["event"] for each in received] == ["progress"] * 3 + ["completed"]


def test_disconnect_cancels_the_request_in_the_model(count_server: Server, tmp_path: Path) -> None:
    url = f"{count_server.url}/v2/models/count_stream/generate_stream"
    with httpx2.stream("POST", url, json={"id": "abc", "text": f"hold {tmp_path}"}, timeout=30) as response:
        assert next(events(response))["event"] == "queued"
    while not (tmp_path / "left-abc").exists():
        time.sleep(0.01)
