# SPDX-License-Identifier: Apache-2.0
"""The page's messages when the connection is lost, the model is not ready, or the server is busy."""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from player import Player

from support.paths import ROOT
from support.scribble_app import PATH
from support.serving import Server, free_port, serving

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

HOUSE = ROOT / "demo" / "examples" / "house.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "main.py", tmp_path)
    return tmp_path


@contextmanager
def forwarding(port: int, address: str) -> Iterator[None]:
    """Forward connections from the port to the address of a Triton."""
    host, _, its_port = address.partition(":")
    listener = socket.create_server(("127.0.0.1", port))
    open_sockets = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has closed its socket

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            far = socket.create_connection((host, int(its_port)))
            open_sockets.extend((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        for each in open_sockets:
            shut(each)
        accepting.join(10)


def shut(each: socket.socket) -> None:
    """Close a socket, and wake the thread that waits on it."""
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def test_a_lost_connection_is_reported_and_the_page_reconnects(
    visit: Visit, scribble_server: Server, folder: Path
) -> None:
    port = free_port()
    triton = ("--triton", f"http://{scribble_server.triton_url}")
    with serving(*triton, folder=folder, port=port) as server:
        server.wait_until_ready()
        player = visit(server, may_complain=True).wait_until_ready().scribble()
        player.make_it_slow()
        player.press_draw()
        player.until("#frame", "preview")
        server.process.kill()
        player.says("#result-error", "The connection was lost at step")
        player.until("#frame", "broken")
        player.until("#status", "gone")
    with serving(*triton, folder=folder, port=port) as server:
        player.says("#result-error", "The server is back")
        player.wait_until_ready()
        player.make_it_quick()
        player.finish()
        assert player.page.inner_text("#result-error") == ""


def test_the_page_waits_for_a_model_that_is_not_ready(visit: Visit, scribble_server: Server, folder: Path) -> None:
    port = free_port()
    with serving("--triton", f"http://127.0.0.1:{port}", folder=folder) as server:
        server.wait_for("the frontend listens")
        player = visit(server)
        player.says("#status", "Waiting for the model")
        player.scribble()
        player.press_draw()
        player.says("#result-error", "You can draw when")
        with forwarding(port, scribble_server.triton_url):
            player.wait_until_ready()
            assert player.page.inner_text("#result-error") == ""
            player.make_it_quick()
            player.finish()


def test_a_busy_server_has_a_message_with_the_time_to_retry(
    visit: Visit, scribble_server: Server, folder: Path
) -> None:
    triton = ("--triton", f"http://{scribble_server.triton_url}", "--max-in-flight", "1", "--max-waiting", "0")
    with serving(*triton, folder=folder) as server:
        server.wait_until_ready()
        player = visit(server, may_complain=True).wait_until_ready().scribble()
        form = {"prompt": "a red house", "num_inference_steps": "50", "width": "256", "height": "256"}
        with httpx2.stream(
            "POST",
            server.url + PATH,
            data=form,
            files={"image": HOUSE.read_bytes()},
            headers={"Accept": "text/event-stream"},
            timeout=60,
        ) as other:
            assert other.status_code == 200, other.read()
            player.press_draw()
            player.says("#result-error", "The server has too much to do right now.")
        assert player.caption == "No picture"


def test_a_waiting_request_shows_its_position_in_the_queue(visit: Visit, scribble_server: Server, folder: Path) -> None:
    triton = ("--triton", f"http://{scribble_server.triton_url}", "--max-in-flight", "1", "--event-heartbeat-s", "0.2")
    with serving(*triton, folder=folder) as server:
        server.wait_until_ready()
        player = visit(server, may_complain=True).wait_until_ready().scribble()
        player.make_it_quick()
        form = {"prompt": "a red house", "num_inference_steps": "50", "width": "256", "height": "256"}
        headers = {"Accept": "text/event-stream"}
        with httpx2.stream(
            "POST", server.url + PATH, data=form, files={"image": HOUSE.read_bytes()}, headers=headers, timeout=60
        ) as other:
            assert other.status_code == 200, other.read()
            player.press_draw()
            player.says("#caption", "number 1 in the queue")
        player.until("#frame", "done")


def test_an_error_event_is_shown_with_the_time_to_retry(visit: Visit) -> None:
    problem = {"status": 503, "code": "overloaded", "detail": "The queue is full.", "retry_after_s": 7}
    events = f'event: queued\ndata: {{"position":2}}\n\nevent: error\ndata: {json.dumps(problem)}\n\n'
    player = visit().wait_until_ready().scribble()
    player.page.route(f"**{PATH}", lambda route: route.fulfill(content_type="text/event-stream", body=events))
    player.press_draw()
    player.says("#result-error", "The server has too much to do right now. Try again in 7 s.")
    assert player.caption == "No picture"
