# SPDX-License-Identifier: Apache-2.0
"""The package webuiapi, a client of A1111."""

import asyncio
import base64
import io
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2
import pytest
import webuiapi
from PIL import Image

from fastapi_triton.testing import FakeTriton
from support.scribble_app import MODEL, base64_picture
from support.scripted_stream_model import stream_inputs

PICTURE = base64_picture()
T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Its requests block, and the server runs in this event loop."""
    return await asyncio.to_thread(work, *arguments, **options)


@pytest.fixture
async def api(socket_client: httpx2.AsyncClient) -> webuiapi.WebUIApi:
    """Version 0.9.17 from PyPI."""
    address = f"{str(socket_client.base_url).rstrip('/')}/sdapi/v1"
    return await in_thread(webuiapi.WebUIApi, baseurl=address, steps=9)


async def test_webuiapi_makes_reads_and_changes_pictures(api: webuiapi.WebUIApi, triton: FakeTriton) -> None:
    scribble = Image.open(io.BytesIO(base64.b64decode(PICTURE)))
    off = webuiapi.ControlNetUnit(image=None, module="canny", model="depth", enabled=False)
    result = await in_thread(
        api.txt2img,
        prompt="a house",
        seed=4,
        batch_size=2,
        controlnet_units=[webuiapi.ControlNetUnit(image=scribble), off],
    )
    assert [len(result.images), result.info["all_seeds"]] == [2, [4, 5]]
    info = await in_thread(api.png_info, result.images[1])
    assert (info.info, info.parameters["Seed"]) == (result.info["infotexts"][1], "5")
    changed = await in_thread(api.img2img, images=[result.image], mask_image=scribble, prompt="a house", seed=4)
    assert (len(changed.images), stream_inputs(triton)[-1]["strength"]) == (1, 0.75)
    with pytest.raises(RuntimeError, match="describe"):
        await in_thread(api.interrogate, scribble)


async def test_webuiapis_other_methods_get_what_is_true(api: webuiapi.WebUIApi) -> None:
    def all_of_them() -> None:
        assert api.util_get_model_names() == [api.util_get_current_model()] == [MODEL]
        api.util_set_model("scribble")
        api.util_wait_for_ready(check_interval=0.01)
        assert "Euler a" in api.util_get_sampler_names()
        assert "karras" in api.util_get_scheduler_names()
        assert api.get_scripts()["txt2img"] == ["controlnet"]
        assert [each["name"] for each in api.get_upscalers()] == ["None"]
        for empty in (
            api.get_sd_vae,
            api.get_latent_upscale_modes,
            api.get_hypernetworks,
            api.get_face_restorers,
            api.get_realesrgan_models,
            api.get_prompt_styles,
            api.get_loras,
        ):
            assert empty() == []
        assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
        assert "error" in api.get_memory()["cuda"]
        assert api.get_cmd_flags()["api"] is True
        assert api.set_options({"sd_vae": "None", "tiling": False}) is None
        assert "samples_format" in api.set_options({"samples_format": "jpg"})["notes"][0]
        assert api.refresh_checkpoints() is None
        assert api.interrupt() == api.skip() == {}
        assert (api.controlnet_version(), api.controlnet_model_list()) == (3, [MODEL])
        module = api.controlnet_module_list()[0]
        scribble = Image.open(io.BytesIO(base64.b64decode(PICTURE)))
        assert api.controlnet_detect([scribble], module=module).image.size == scribble.size

    await in_thread(all_of_them)
