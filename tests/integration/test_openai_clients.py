# SPDX-License-Identifier: Apache-2.0
"""Packages that call OpenAI's API, unchanged, with a real server: LiteLLM, and LangChain's DALL·E wrapper."""

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.openai_clients import openai_clients as openai_clients
from support.paths import ROOT
from support.serving import Server

pytestmark = [pytest.mark.integration, pytest.mark.slow]  # installs sixty packages

HOUSE = str(ROOT / "demo" / "examples" / "house.png")
# Prints what LiteLLM returns for each call: a function and its arguments.
LITELLM = """
import json, sys
import litellm
for name, arguments in json.load(sys.stdin):
    if "image" in arguments:
        arguments["image"] = [open(path, "rb") for path in arguments["image"]]
    response = getattr(litellm, name)(**arguments)
    print(json.dumps({"data": [dict(each) for each in response.data], "created": response.created}))
"""
# Prints the URLs of LangChain's utility, and of the tool for agents.
LANGCHAIN = """
import json, sys
from langchain_community.tools.openai_dalle_image_generation import OpenAIDALLEImageGenerationTool
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper
base_url = json.load(sys.stdin)
for options in ({"model": "dall-e-3", "quality": "hd", "n": 2}, {"size": "256x256"}):
    wrapper = DallEAPIWrapper(base_url=base_url, api_key="none", **options)
    print(wrapper.run("a red house"))
print(OpenAIDALLEImageGenerationTool(api_wrapper=wrapper).run("a blue fish"))
"""


def printed(python: Path, program: str, sent: Any) -> list[str]:
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # or it would load prices from the internet
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def size_of(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


def test_litellm(openai_clients: Path, scribble_server: Server) -> None:
    common = {"prompt": "a red house", "api_base": f"{scribble_server.url}/v1", "api_key": "none"}
    quick = {"extra_body": {"num_inference_steps": 2}}
    calls = [
        ("image_generation", {**common, "model": "openai/sdxl_scribble_controlnet", "n": 2, **quick}),
        ("image_generation", {**common, "model": "openai/dall-e-3", "size": "1024x1024", **quick}),
        ("image_edit", {**common, "model": "openai/gpt-image-1", "image": [HOUSE], "quality": "low"}),
        ("image_edit", {**common, "model": "openai/gpt-image-1", "image": [HOUSE, HOUSE], "size": "1024x1024"}),
    ]
    own, dall_e, edit, of_two = (json.loads(line)["data"] for line in printed(openai_clients, LITELLM, calls))
    for each in (*own, *edit, *of_two):
        assert size_of(base64.b64decode(each["b64_json"])) > (64, 64)
    assert len(own) == 2
    assert size_of(httpx2.get(dall_e[0]["url"]).content) > (64, 64)


def test_langchains_dall_e_wrapper(openai_clients: Path, scribble_server: Server) -> None:
    urls = printed(openai_clients, LANGCHAIN, f"{scribble_server.url}/v1")
    assert len(set(urls)) == 4
    for url in urls:
        assert url.startswith(f"{scribble_server.url}/v1/images/files/")
        assert size_of(httpx2.get(url).content) > (64, 64)
