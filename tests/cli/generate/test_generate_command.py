# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton generate` with a real server: pictures, receipts, errors and interruption."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from click.testing import Result
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from fastapi_triton.cli.main import app
from support.paths import ROOT
from support.serving import COUNT_APP, Server, assert_gone, free_port

pytestmark = pytest.mark.integration

HOUSE = ROOT / "demo" / "examples" / "house.png"
FEW = ("--steps", "2")
Generate = Callable[..., Result]


@pytest.fixture
def generate(scribble_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, url: str = scribble_server.url, stdin: bytes = b"") -> Result:
        return CliRunner().invoke(app, ["generate", *arguments], env={"FASTAPI_TRITON_URL": url}, input=stdin)

    return run


def files(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pixels(file: str | Path | bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(file) if isinstance(file, bytes) else file).convert("RGB"))


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_file_name_determines_the_format_of_the_picture(generate: Generate) -> None:
    made = generate("a red house in the snow", str(HOUSE), "-o", "house.webp", "--seed", "5", *FEW)
    assert made.exit_code == 0, made.output
    assert re.fullmatch(r"house\.webp  256x256, seed 5, \d+\.\d s\n", made.stdout)
    with Image.open("house.webp") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("WEBP", (256, 256))
    assert files() == ["house.webp"]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_a_picture_is_made_again_from_its_file_byte_for_byte(generate: Generate, suffix: str) -> None:
    options = ("--negative-prompt", "trees", "--guidance-scale", "3.3", "--control-guidance-end", "0.7", *FEW)
    first = generate("ein rotes Häuschen 🏠", str(HOUSE), "-o", f"first.{suffix}", *options)
    again = generate("--from", f"first.{suffix}", "-o", f"again.{suffix}", "--json")
    assert (first.exit_code, again.exit_code) == (0, 0), again.output
    assert Path(f"again.{suffix}").read_bytes() == Path(f"first.{suffix}").read_bytes()
    assert (as_json(again)["same_pixels"], as_json(again)["warnings"]) == (True, [])


def test_a_picture_is_made_again_in_another_format_with_the_same_pixels(generate: Generate) -> None:
    generate("a house", str(HOUSE), "-o", "first.jpg", "--seed", "1", *FEW)
    generate("a house", str(HOUSE), "-o", "first.png", "--seed", "1", *FEW)
    again = generate("--from", "first.jpg", "-o", "again.png")
    assert "pixel for pixel" in again.stderr
    assert np.array_equal(pixels("again.png"), pixels("first.png"))


def test_a_picture_from_the_api_is_made_again(generate: Generate, scribble_server: Server) -> None:
    response = scribble_server.post(
        "/sdxl/scribble-controlnet/infer",
        data={"prompt": "a red house", "num_inference_steps": "2"},
        files={"image": HOUSE.read_bytes()},
        headers={"Accept": "image/png"},
    )
    Path("picture.png").write_bytes(response.content)
    again = generate("--from", "picture.png", "--json")
    assert as_json(again)["same_pixels"] is True
    assert as_json(again)["pictures"][0]["file"] == "picture-again.png"
    assert as_json(again)["pictures"][0]["seed"] == int(response.headers["x-seed"])
    info = json.loads(response.headers["x-info"])
    expected = f"{256}x{256}:".encode() + pixels(response.content).tobytes()
    assert info["pixels_sha256"] == hashlib.sha256(expected).hexdigest()
    assert len(info["checkpoint_revision"]) == 16
    assert info["engine"]["version"]


def test_changed_scribbles_and_weights_are_warned_of(generate: Generate) -> None:
    generate("a house", str(HOUSE), "-o", "first.png", *FEW)
    again = generate("--from", "first.png", str(HOUSE.parent / "star.png"), "--json")
    assert again.exit_code == 0
    assert as_json(again)["same_pixels"] is False
    assert any("scribble differs" in each for each in as_json(again)["warnings"])
    with Image.open("first.png") as first:
        receipt = json.loads(first.info["fastapi-triton"]) | {"checkpoint_revision": "0" * 16}
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("fastapi-triton", json.dumps(receipt))
        first.save("older.png", pnginfo=texts)
    again = generate("--from", "older.png", str(HOUSE))
    assert again.exit_code == 0
    assert "weights of demo_checkpoint have changed: 0000000000000000 then" in again.stderr
    assert "pixel for pixel" in again.stderr


def test_another_size_is_not_reported_as_another_scribble(generate: Generate) -> None:
    generate("a house", str(HOUSE), "-o", "first.png", *FEW)
    again = generate("--from", "first.png", "--width", "96", "--height", "96", "--json")
    assert again.exit_code == 0
    assert as_json(again)["warnings"] == []
    assert "same_pixels" not in as_json(again)
    assert pixels("first-again.png").shape == (96, 96, 3)


def test_json_describes_every_picture_and_standard_error_is_empty(generate: Generate) -> None:
    made = generate("a house", "-", "-o", "h.png", "--n", "2", "--seed", "8", "--json", *FEW, stdin=HOUSE.read_bytes())
    assert made.stderr == ""
    assert [each["file"] for each in as_json(made)["pictures"]] == ["h-1.png", "h-2.png"]
    assert [each["seed"] for each in as_json(made)["pictures"]] == [8, 9]
    assert as_json(made)["pictures"][0]["info"]["num_inference_steps"] == 2
    assert as_json(made)["pictures"][0]["bytes"] == Path("h-1.png").stat().st_size
    assert as_json(made)["started_server"] is False
    assert not np.array_equal(pixels("h-1.png"), pixels("h-2.png"))


def test_standard_output_contains_only_the_picture(generate: Generate) -> None:
    made = generate("a house", str(HOUSE), "-o", "-", "--format", "jpeg", *FEW)
    assert pixels(made.stdout_bytes).shape == (256, 256, 3)
    assert made.stdout_bytes.startswith(b"\xff\xd8\xff")
    assert files() == []


def test_progress_is_shown_only_in_a_terminal(generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--example", "cat", "--steps", "6", "--n", "2", "-o", "cat.png", "--force")
    assert "steps" not in generate(*options).stderr
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # so that Rich assumes a terminal
    shown = generate(*options, "--json").stderr
    assert re.search(r"Drawing 1 of 2 .*[1-5]/6\x1b.* steps, .* left", shown)
    assert "Drawing 2 of 2" in shown


def test_an_example_needs_no_other_arguments(generate: Generate) -> None:
    assert generate("--example", "star", *FEW).exit_code == 0
    (file,) = files()
    assert (file[:6], pixels(file).shape) == ("a-yell", (256, 256, 3))


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--steps", "1000"], "--steps is 1000; it must be from 1 to 50.", "out_of_range"),
        (["--steps", "0"], "--steps is 0; it must be at least 1.", "out_of_range"),
        (
            ["--width", "40", "--height", "40"],
            "--width is 40 and --height is 40; the nearest size is",
            "unsupported_size",
        ),
        (["--scheduler", "dpm"], "--scheduler is 'dpm'; it must be one of euler", "unknown_scheduler"),
        (
            ["--control-guidance-start", "0.9", "--control-guidance-end", "0.1"],
            "--control-guidance-start is 0.9 and --control-guidance-end is 0.1",
            "out_of_range",
        ),
    ],
)
def test_errors_of_the_server_name_the_option(generate: Generate, arguments: list[str], words: str, code: str) -> None:
    failed = generate("a house", str(HOUSE), "-o", "h.png", *arguments, "--json")
    assert failed.exit_code == 1
    assert as_json(failed)["error"]["code"] == code
    assert words in as_json(failed)["error"]["detail"]
    assert failed.stderr == as_json(failed)["error"]["detail"] + "\n"
    assert files() == []


def test_the_error_for_an_invalid_scribble_names_the_scribble(generate: Generate) -> None:
    failed = generate("a house", "-", stdin=b"hello")
    assert (failed.exit_code, failed.stderr[:19]) == (1, "The scribble is not")
    cut_off = generate("a house", "-", stdin=HOUSE.read_bytes()[:5000])
    assert (cut_off.exit_code, cut_off.stderr) == (
        1,
        "The scribble is cut off or damaged. Send the whole file.\n",
    )


def test_invalid_options_exit_with_2(generate: Generate) -> None:
    for arguments in (["a house"], ["--example", "horse"], ["--example", "cat", "--json", "-o", "-"], ["--n", "0"]):
        assert generate(*arguments).exit_code == 2
    assert generate("--example", "cat", url="localhost:80").exit_code == 2


def test_a_missing_server_exits_with_3(generate: Generate, scribble_server: Server) -> None:
    missing = generate("--example", "cat", url=f"http://127.0.0.1:{free_port()}")
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert "No server responds at http://127.0.0.1:" in missing.stderr
    another = generate("--example", "cat", url=f"http://{scribble_server.triton_url}")
    assert another.exit_code == 3
    assert "has no picture endpoint" in another.stderr


def test_ctrl_c_cancels_the_request_and_leaves_no_file(scribble_server: Server, tmp_path: Path) -> None:
    address = scribble_server.wait_for(r"Started Metrics Service at ([\d.:]+)")[1]

    def counted(series: str) -> float:
        found = re.search(rf"(?m)^{re.escape(series)} (\S+)$", httpx2.get(f"http://{address}/metrics").text)
        return float(found[1]) if found else 0.0

    cancelled, started = 'sdxl_engine_requests_total{how="cancelled"}', "sdxl_engine_started_total"
    before = {name: counted(name) for name in (cancelled, started)}
    command = [sys.executable, "-m", "fastapi_triton", "generate", "--example", "cat", "--steps", "50", "-o", "cat.png"]
    process = subprocess.Popen(
        [*command, "--width", "256", "--height", "256", "--url", scribble_server.url],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while counted(started) == before[started]:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "Interrupted.\n")
    while counted(cancelled) == before[cancelled]:
        pass
    assert files(tmp_path) == []


# ---- a server that the command starts

# Replaces the package's app and models by ones without PyTorch.
OWN_SERVER = """
import asyncio, pathlib, sys
import aiohttp
from fastapi_triton.core import bundle
from fastapi_triton.cli.generate.local_server import own_server
bundle.app_folder = lambda: pathlib.Path(sys.argv[1])
async def main():
    async with own_server() as url, aiohttp.ClientSession() as session, session.get(url + "/health/ready") as response:
        print(response.status, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "end", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)], ids=["ctrl-c", "killed"]
)
def test_a_started_server_is_ready_and_stops_at_the_end(end: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_SERVER, str(COUNT_APP)],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "200\n"
        below = set(psutil.Process(process.pid).children(recursive=True))
        assert any("tritonserver" in each.name() for each in below)
        process.send_signal(end)
        process.wait(60)
    assert_gone(below)


@pytest.mark.slow
def test_a_server_is_started_and_stopped_if_none_is_running(tmp_path: Path) -> None:
    code = f"""
from fastapi_triton.cli.generate import run
run.DEFAULT_URL = "http://127.0.0.1:{free_port()}"
from fastapi_triton.cli.main import app
app(["generate", "--example", "house", "-o", "house.png", "--json"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "FASTAPI_TRITON_URL"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["started_server"] is True
    assert pixels(tmp_path / "house.png").shape == (256, 256, 3)
    assert not [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(tmp_path)]
