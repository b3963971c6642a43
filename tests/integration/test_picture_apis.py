# SPDX-License-Identifier: Apache-2.0
"""OpenAI's client and an A1111 client with a real server: results, exceptions and cancelling."""

import asyncio
import base64
import contextlib
import io
import re
import threading
from collections.abc import Iterator

import httpx2
import openai
import pytest
import webuiapi
from PIL import Image, ImageChops

from support.paths import ROOT
from support.scribble_app import PATH, SMALL
from support.serving import Server

pytestmark = pytest.mark.integration

HOUSE = ROOT / "demo" / "examples" / "house.png"
MODEL = "sdxl_scribble_controlnet"
QUICK = {"num_inference_steps": 4}
SIZE = f"{SMALL['width']}x{SMALL['height']}"
LONG = {"num_inference_steps": 50, "guidance_scale": 5}


@pytest.fixture
def client(scribble_server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{scribble_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def bytes_of(picture: openai.types.Image) -> bytes:
    return base64.b64decode(picture.b64_json or "")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures, 0 to 255. It may be 1 if other requests shared their denoise steps."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def cancelled(server: Server) -> float:
    """The number of requests that the engine has cancelled."""
    address = server.wait_for(r"Started Metrics Service at ([\d.:]+)")[1]
    text = httpx2.get(f"http://{address}/metrics").text
    found = re.search(r'(?m)^sdxl_engine_requests_total{how="cancelled"} (\S+)$', text)
    return float(found[1]) if found else 0.0


@contextlib.contextmanager
def one_more_cancelled(server: Server) -> Iterator[None]:
    """Waits at the end until the engine has cancelled a request. Otherwise the test runs into its time limit."""
    before = cancelled(server)
    yield
    while cancelled(server) == before:
        pass


# ---- OpenAI


def test_edit_returns_the_picture_of_the_declared_endpoint(scribble_server: Server, client: openai.OpenAI) -> None:
    extra = {"seed": 5, "conditioning_scale": 0.8, "negative_prompt": "blurry", **QUICK}
    with HOUSE.open("rb") as file:
        edited = client.images.edit(image=[file], prompt="a red house", size=SIZE, extra_body=extra)
    body = {"prompt": "a red house", "image": base64.b64encode(HOUSE.read_bytes()).decode(), **SMALL, **extra}
    plain = scribble_server.post(PATH, json={**body, "output_format": "png"}).json()
    picture, same = opened(bytes_of((edited.data or [])[0])), opened(base64.b64decode(plain["generated_image"]))
    assert difference(picture, same) <= 1
    assert (picture.format, edited.size, edited.output_format) == ("PNG", SIZE, "png")


def painting() -> Image.Image:
    """A picture to change."""
    return Image.linear_gradient("L").resize((128, 128)).convert("RGB")


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def assert_only_right_half_changed(picture: Image.Image, *, border: int = 0) -> None:
    left, right = (0, 0, 64 - border, 128), (64, 0, 128, 128)
    assert difference(picture.crop(left), painting().crop(left)) == 0
    assert difference(picture.crop(right), painting().crop(right)) > 20


def test_edit_with_a_mask_changes_only_the_transparent_part(scribble_server: Server, client: openai.OpenAI) -> None:
    mask = painting().convert("RGBA")
    mask.paste((0, 0, 0, 0), (64, 0, 128, 128))
    files = {"image": as_png(painting()), "mask": as_png(mask)}
    edited = client.images.edit(**files, prompt="a red house", size=SIZE, extra_body={"seed": 5, **QUICK})
    picture = opened(bytes_of((edited.data or [])[0]))
    assert_only_right_half_changed(picture)
    encoded = {name: base64.b64encode(each).decode() for name, each in files.items()}
    with_scribble = scribble_server.post(
        PATH,
        json={
            "prompt": "a red house",
            "image": base64.b64encode(HOUSE.read_bytes()).decode(),
            "init_image": encoded["image"],
            "mask": encoded["mask"],
            "mask_selects": "transparent",
            "output_format": "png",
            "strength": 0.7,
            "seed": 5,
            "num_inference_steps": 10,
            **SMALL,
        },
    ).json()
    assert with_scribble["info"]["strength"] == 0.7
    other = opened(base64.b64decode(with_scribble["generated_image"]))
    assert_only_right_half_changed(other)
    assert difference(picture, other) > 20


def test_several_pictures_have_consecutive_seeds(client: openai.OpenAI) -> None:
    both = client.images.generate(prompt="a red house", n=2, size=SIZE, extra_body={"seed": 8, **QUICK}).data or []
    alone = client.images.generate(prompt="a red house", size=SIZE, extra_body={"seed": 9, **QUICK}).data or []
    assert [opened(bytes_of(each)).format for each in both] == ["PNG", "PNG"]
    first, second, again = (opened(bytes_of(each)) for each in (*both, *alone))
    assert difference(second, again) <= 1 < difference(first, again)


def test_openai_client_reads_the_events_and_the_last_equals_the_plain_response(client: openai.OpenAI) -> None:
    extra = {"seed": 8, "num_inference_steps": 8}
    plain = client.images.generate(prompt="a red house", size=SIZE, extra_body=extra).data or []
    stream = client.images.generate(prompt="a red house", size=SIZE, stream=True, partial_images=2, extra_body=extra)
    *partial, completed = list(stream)
    assert isinstance(completed, openai.types.ImageGenCompletedEvent)
    assert difference(opened(base64.b64decode(completed.b64_json)), opened(bytes_of(plain[0]))) <= 1
    assert completed.usage.total_tokens == 0
    assert partial
    for index, each in enumerate(partial):
        assert isinstance(each, openai.types.ImageGenPartialImageEvent)
        assert each.partial_image_index == index
        assert opened(base64.b64decode(each.b64_json)).size == (128, 128)


def test_models_are_listed(client: openai.OpenAI) -> None:
    loras = [f"{MODEL}:{name}" for name in ("crayon", "few_step", "neon", "watercolour")]
    assert [each.id for each in client.models.list()] == [MODEL, *loras]
    assert client.models.retrieve(MODEL).object == "model"


def test_openai_client_raises_the_usual_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(prompt="a house", extra_body={"num_inference_steps": 10_000})
    assert (bad.value.param, bad.value.code, bad.value.type) == (
        "num_inference_steps",
        "out_of_range",
        "invalid_request_error",
    )
    with pytest.raises(openai.BadRequestError) as cut_off:
        client.images.edit(image=HOUSE.read_bytes()[: HOUSE.stat().st_size // 2], prompt="a house")
    assert (cut_off.value.param, cut_off.value.code) == ("image", "truncated_image")
    with pytest.raises(openai.BadRequestError, match="mask"):
        client.images.edit(image=HOUSE, mask=HOUSE, prompt="a house")
    with pytest.raises(openai.NotFoundError, match='There is no model "flux"'):
        client.images.generate(model="flux", prompt="a house")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(openai.APIStatusError) as wrong_method:
        client.get("/images/edits", cast_to=object)
    assert wrong_method.value.status_code == 405
    with pytest.raises(openai.APIStatusError) as too_large:
        client.images.edit(image=b"x" * 21_000_000, prompt="a house")
    assert too_large.value.status_code == 413


def test_openai_client_raises_an_error_of_a_stream(client: openai.OpenAI) -> None:
    content = HOUSE.read_bytes()
    pixels = content.index(b"IDAT") + 4
    damaged = content[: pixels + 1000] + bytes(1000) + content[pixels + 2000 :]
    stream = client.images.edit(image=damaged, prompt="a house", stream=True)
    with pytest.raises(openai.APIError) as error:
        list(stream)
    assert error.value.code == "truncated_image"


def test_timeout_and_closed_stream_cancel_the_request(scribble_server: Server, client: openai.OpenAI) -> None:
    with one_more_cancelled(scribble_server), pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).images.generate(prompt="a house", size="256x256", extra_body=LONG)
    with one_more_cancelled(scribble_server):
        stream = client.images.generate(prompt="a house", stream=True, partial_images=3, extra_body=LONG)
        next(iter(stream))
        stream.close()


async def test_async_openai_client_works_and_can_be_cancelled(scribble_server: Server) -> None:
    url = f"{scribble_server.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        pictures = await asyncio.gather(
            client.images.generate(prompt="a red house", size=SIZE, extra_body={"seed": 1, **QUICK}),
            client.images.edit(image=HOUSE, prompt="a red house", size=SIZE, extra_body={"seed": 1, **QUICK}),
        )
        assert len({(each.data or [])[0].b64_json for each in pictures}) == 2
        with one_more_cancelled(scribble_server):
            stream = await client.images.edit(
                image=HOUSE, prompt="a house", stream=True, partial_images=3, extra_body=LONG
            )
            reading = asyncio.create_task(anext(aiter(stream)))
            assert (await reading).type == "image_edit.partial_image"
            await stream.close()


def test_a_url_and_every_name_of_a_model(client: openai.OpenAI) -> None:
    response = client.images.generate(model="dall-e-3", prompt="a red house", extra_body=QUICK)
    (made,) = response.data or []
    assert made.b64_json is None
    width, height = opened(httpx2.get(made.url or "").content).size
    assert f"{width}x{height}" == response.size
    for name in (MODEL, "dall-e-3", "gpt-image-1"):
        assert client.models.retrieve(name).id == name


# ---- A1111


@pytest.fixture
def a1111(scribble_server: Server) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=scribble_server.port, steps=4)


def unit() -> webuiapi.ControlNetUnit:
    return webuiapi.ControlNetUnit(image=Image.open(HOUSE), module="none", model="None")


def test_first_requests_of_an_a1111_client_succeed(a1111: webuiapi.WebUIApi) -> None:
    assert a1111.util_get_current_model() == "demo_checkpoint"
    assert a1111.util_get_model_names() == ["demo_checkpoint"]
    assert {"DPM++ 2M", "DPM++ SDE", "Euler a", "UniPC"} < set(a1111.util_get_sampler_names())
    assert {"automatic", "karras", "sgm_uniform"} < set(a1111.util_get_scheduler_names())
    assert a1111.controlnet_model_list() == [MODEL]
    assert a1111.controlnet_module_list()[0] == "none"
    assert a1111.controlnet_version() == 3
    assert a1111.get_cmd_flags() == {"api": True}
    for empty in (a1111.get_sd_vae, a1111.get_latent_upscale_modes, a1111.get_face_restorers):
        assert empty() == []
    a1111.util_set_model("demo")
    a1111.util_wait_for_ready()


def test_a1111_client_draws_with_a_scribble(scribble_server: Server, a1111: webuiapi.WebUIApi) -> None:
    made = a1111.txt2img(prompt="a red house", seed=3, cfg_scale=2.5, **SMALL, batch_size=2, controlnet_units=[unit()])
    assert [each.size for each in made.images] == [(128, 128)] * 2
    assert (made.info["all_seeds"], made.info["sampler_name"]) == ([3, 4], "Euler a")
    body = {
        "prompt": "a red house",
        "image": base64.b64encode(HOUSE.read_bytes()).decode(),
        "seed": 4,
        "guidance_scale": 2.5,
        "num_inference_steps": 4,
        "scheduler": "euler_ancestral",
        "output_format": "png",
        **SMALL,
    }
    plain = opened(base64.b64decode(scribble_server.post(PATH, json=body).json()["generated_image"]))
    first, second = made.images
    assert difference(second, plain) <= 1 < difference(first, plain)


def test_a1111_client_changes_a_region(a1111: webuiapi.WebUIApi) -> None:
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 0, 128, 128))
    made = a1111.img2img(
        images=[painting()],
        mask_image=mask,
        mask_blur=2,
        prompt="a red house",
        steps=6,
        seed=3,
        controlnet_units=[unit()],
        denoising_strength=1.0,
        **SMALL,
        inpainting_fill=1,
        inpaint_full_res=False,
    )
    assert_only_right_half_changed(made.image, border=8)
    assert made.info["notes"] == []
    assert "Model: demo_checkpoint, Denoising strength: 1.0, Mask blur: 2.0, " in made.info["infotexts"][0]
    found = a1111.png_info(made.image)
    assert found.info == made.image.info["parameters"] == made.info["infotexts"][0]
    assert (found.parameters["Seed"], found.parameters["Sampler"]) == ("3", "Euler a")
    assert "fastapi-triton" in made.image.info  # the receipt
    with pytest.raises(RuntimeError, match="denoising_strength"):
        a1111.img2img(images=[painting()], prompt="a red house", steps=6, denoising_strength=0.1)


def test_interrupt_stops_only_the_callers_picture(scribble_server: Server, a1111: webuiapi.WebUIApi) -> None:
    made: list[webuiapi.WebUIApiResult] = []

    def draw() -> None:
        made.append(a1111.txt2img(prompt="a house", width=256, height=256, steps=50, controlnet_units=[unit()]))

    drawing = threading.Thread(target=draw)
    with one_more_cancelled(scribble_server):
        drawing.start()
        while not (progress := a1111.get_progress())["current_image"]:
            pass
        assert 0 < progress["progress"] < 1
        stranger = webuiapi.WebUIApi(host="127.0.0.1", port=scribble_server.port)
        assert stranger.get_progress()["state"]["job_count"] == 0
        stranger.interrupt()
        assert a1111.get_progress()["state"]["interrupted"] is False
        a1111.interrupt()
        drawing.join()
    assert made[0].image.size == (256, 256)
    assert any("interrupted" in note for note in made[0].info["notes"])
