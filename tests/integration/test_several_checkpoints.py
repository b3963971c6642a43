# SPDX-License-Identifier: Apache-2.0
"""A model that `add-model` has added, with a checkpoint in one file, beside the first one in a real Triton."""

import json
import shutil
from collections.abc import Iterator

import openai
import pytest
import webuiapi
from typer.testing import CliRunner

from fastapi_triton.cli.main import app
from support.paths import ROOT
from support.scribble_app import MODEL
from support.serving import Server, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NAME = "juggernaut"
SERVING = {"name": "Juggernaut", "defaults": {"width": 64, "height": 64, "num_inference_steps": 3}, "sizes": [[64, 64]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from support import original_layout  # imports torch

    folder = tmp_path_factory.mktemp("several")
    shutil.copy(ROOT / "main.py", folder)
    shutil.copytree(ROOT / "models", folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    arguments = ["--checkpoint", f"{NAME}.safetensors", "--controlnet", "config/controlnet"]
    done = CliRunner().invoke(app, ["add-model", NAME, *arguments, "--models", str(folder / "models")])
    assert done.exit_code == 0, done.output
    config = folder / "models" / f"{NAME}_stream" / "config.pbtxt"
    line = 'parameters { key: "config" value { string_value: "%s" } }'
    assert line % "" in config.read_text()
    config.write_text(config.read_text().replace(line % "", line % "config"))
    beside = folder / "models" / f"{NAME}_stream" / "1"
    pipeline = original_layout.small_pipeline()
    pipeline.save_pretrained(beside / "config")
    original_layout.write_file(pipeline, beside / f"{NAME}.safetensors")
    (beside / f"{NAME}.serving.json").write_text(json.dumps(SERVING))
    with serving("--embedded", folder=folder) as server:
        server.wait_for(f"successfully loaded '{NAME}_stream'")
        yield server.wait_until_ready()


def test_openai_client_chooses_the_model(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert {each.id for each in client.models.list() if ":" not in each.id} == {MODEL, NAME}
        sizes = [client.images.generate(model=name, prompt="a house").size for name in (NAME, MODEL)]
        assert sizes == ["64x64", "256x256"]
        with pytest.raises(openai.NotFoundError, match="did you mean `juggernaut`"):
            client.images.generate(model="jugernaut", prompt="a house")


def test_a1111_client_chooses_the_checkpoint(server: Server) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=server.port)
    assert [each["title"] for each in api.get_sd_models()] == ["demo_checkpoint", "Juggernaut"]
    assert api.txt2img(prompt="a house").info["sd_model_name"] == "demo_checkpoint"
    api.util_set_model("Juggernaut", find_closest=False)
    assert api.util_get_current_model() == "Juggernaut"
    assert api.txt2img(prompt="a house").info["sd_model_name"] == "Juggernaut"
    other = {"sd_model_checkpoint": "demo_checkpoint"}
    assert api.txt2img(prompt="a house", override_settings=other).info["sd_model_name"] == "demo_checkpoint"
