# SPDX-License-Identifier: Apache-2.0
"""API keys from OpenAI's SDK, an A1111 client, tritonclient and `fastapi-triton generate`; their names in the log."""

import base64
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import requests
import webuiapi
from PIL import Image
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

from support.api_keys import DRAWS, RULES, WATCHES, bearer, block
from support.paths import ROOT
from support.scribble_app import PATH
from support.serving import Server, serving

pytestmark = pytest.mark.integration

HOUSE = ROOT / "demo" / "examples" / "house.png"
MODEL = "sdxl_scribble_controlnet"
OTHER = "ftk_a-key-that-is-of-another-server"


@pytest.fixture(scope="module")
def locked(scribble_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    shutil.copy(ROOT / "main.py", folder)
    keys: Path = folder / "keys.toml"
    keys.write_text(
        block("draws", DRAWS)
        + block("watches", WATCHES, 'scopes = ["metrics", "docs"]')
        + block("rules", RULES, 'scopes = ["v2", "admin"]')
    )
    arguments = ("--triton", f"http://{scribble_server.triton_url}", "--api-keys-file", str(keys), "--v2-admin")
    with serving(*arguments, "--log-level", "debug", folder=folder) as server:
        yield server.wait_until_ready()
    for secret in (DRAWS, WATCHES, RULES, OTHER):
        assert secret not in server.log


def test_openai_client_sends_its_key(locked: Server) -> None:
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key=DRAWS, max_retries=0) as client:
        made = client.images.generate(prompt="a red house", n=1, extra_body={"num_inference_steps": 4})
        assert made.data is not None
        Image.open(io.BytesIO(base64.b64decode(made.data[0].b64_json or ""))).load()
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key=OTHER, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as rejected:
            client.models.list()
        assert rejected.value.code == "unknown_key"
    with (
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key=WATCHES, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError, match="`infer`"),
    ):
        client.models.list()


def test_a1111_client_sends_the_key_as_a_password(locked: Server) -> None:
    client = webuiapi.WebUIApi(port=locked.port, username="anyone", password=DRAWS)
    made = client.txt2img(prompt="a red house", steps=4)
    assert made.image.size
    stranger = webuiapi.WebUIApi(port=locked.port, username="anyone", password=OTHER)
    with pytest.raises(RuntimeError, match="401"):
        stranger.txt2img(prompt="a red house", steps=4)


def test_tritonclient_sends_the_key_in_a_header(locked: Server) -> None:
    with InferenceServerClient(f"127.0.0.1:{locked.port}") as client:
        assert client.get_model_metadata(MODEL, headers=bearer(RULES))["name"] == MODEL
        assert client.get_log_settings(headers={"X-API-Key": RULES})
        with pytest.raises(InferenceServerException, match="needs an API key"):
            client.get_model_metadata(MODEL)
        with pytest.raises(InferenceServerException, match="lacks the scope `v2`"):
            client.get_model_metadata(MODEL, headers=bearer(DRAWS))


def generate(locked: Server, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastapi_triton", "generate", "a red house", str(HOUSE), "--steps", "4"]
    return subprocess.run(
        [*command, "-o", str(folder / "house.png"), "--url", locked.url, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_generate_sends_the_key(locked: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rejected = generate(locked, tmp_path)
    assert rejected.returncode == 1
    assert "This request needs an API key" in rejected.stderr
    monkeypatch.setenv("FASTAPI_TRITON_KEY", DRAWS)
    done = generate(locked, tmp_path)
    assert done.returncode == 0, done.stderr
    Image.open(tmp_path / "house.png").load()
    rejected = generate(locked, tmp_path, "--force", "--key", OTHER)
    assert (rejected.returncode, "is unknown" in rejected.stderr) == (1, True)


def test_docs_page_asks_browsers_for_the_key(locked: Server) -> None:
    response = requests.get(f"{locked.url}/docs", timeout=30)
    assert response.status_code == 401
    assert "Basic" in response.headers["WWW-Authenticate"]
    assert requests.get(f"{locked.url}/docs", auth=("", WATCHES), timeout=30).status_code == 200
    document = requests.get(f"{locked.url}/openapi.json", auth=("", WATCHES), timeout=30).json()
    assert {each["type"] for each in document["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    assert {"401", "403", "429"} <= set(document["paths"][PATH]["post"]["responses"])
