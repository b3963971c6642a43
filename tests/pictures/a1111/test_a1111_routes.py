# SPDX-License-Identifier: Apache-2.0
"""The routes and lists that A1111's clients probe, and addresses with a slash at their end."""

import httpx2
from response_lists import lists

from support.scribble_app import base64_picture

TXT2IMG = "/sdapi/v1/txt2img"
PICTURE = base64_picture()


async def test_an_address_with_a_slash_at_its_end(client: httpx2.AsyncClient) -> None:
    """As in SdPaint, and older versions of others: the paths begin with two slashes."""
    for path in ("/sdapi/v1/options", "/sdapi/v1/progress?id_task=x", "/controlnet/model_list"):
        response = await client.get(f"http://test/{path}")
        assert (response.status_code, response.headers["location"]) == (307, path)
    response = await client.post(f"http://test/{TXT2IMG}", json={"prompt": "a house"}, follow_redirects=True)
    assert response.status_code == 200
    for hostile in ("//sdapi///evil.example/", "//sdapi/%0dX: y", "//sdapi/..%2f..%2fx", "//sdapi/\\evil.example"):
        location = (await client.get(f"http://test{hostile}")).headers["location"]
        assert location.startswith("/sdapi/")
        assert not {"\r", "\n"} & set(location)
    assert (await client.get("http://test//sdapi/%0d%0aX: y")).status_code == 404


async def test_older_clients_probe_gradios_routes(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/internal/ping")).json() == {}
    queue = (await client.get("/queue/status")).json()
    assert (queue["msg"], queue["queue_size"]) == ("estimation", 0)
    assert (await client.get("/config")).json()["dependencies"] == []


async def test_lists_have_a1111s_form(client: httpx2.AsyncClient) -> None:
    info, extensions, models = await lists(client, "script-info", "extensions", "sd-models")
    assert [(each["name"], each["is_alwayson"], each["is_img2img"]) for each in info] == [
        ("controlnet", True, False),
        ("controlnet", True, True),
    ]
    assert (extensions, set(models[0])) == ([], {"title", "model_name", "hash", "sha256", "filename", "config"})
    for action in ("refresh-checkpoints", "refresh-loras", "refresh-vae", "refresh-embeddings"):
        response = await client.post(f"/sdapi/v1/{action}")
        assert (response.status_code, response.json()) == (200, None)
    interrogated = await client.post("/sdapi/v1/interrogate", json={"image": PICTURE, "model": "clip"})
    assert (interrogated.status_code, "describe" in interrogated.json()["detail"]) == (404, True)


async def test_detect_returns_the_pictures_of_module_none_only(client: httpx2.AsyncClient) -> None:
    for name in ("controlnet_input_images", "controlnet_images"):
        response = await client.post("/controlnet/detect", json={name: [PICTURE, f"data:image/png;base64,{PICTURE}"]})
        assert response.json() == {"images": [PICTURE] * 2, "info": "Success"}
    for wrong in (
        {"controlnet_module": "canny", "controlnet_input_images": [PICTURE]},
        {"controlnet_input_images": []},
        {"controlnet_input_images": ["aGVsbG8="]},
        {"controlnet_input_images": [PICTURE] * 11},
        {},
    ):
        response = await client.post("/controlnet/detect", json=wrong)
        assert (response.status_code, response.json()["error"]) == (422, "InvalidRequestError")


async def test_detect_notes_the_fields_that_it_does_not_serve(client: httpx2.AsyncClient) -> None:
    pictures = {"controlnet_input_images": [PICTURE]}
    for module in (None, "None", "none", ""):
        response = await client.post("/controlnet/detect", json=pictures | {"controlnet_module": module})
        assert response.json() == {"images": [PICTURE], "info": "Success"}
    sent_by_clients = {
        "controlnet_processor_res": 512,
        "controlnet_threshold_a": 64,
        "controlnet_threshold_b": -1,
        "low_vram": False,
        "controlnet_masks": [],
    }
    response = await client.post("/controlnet/detect", json=pictures | sent_by_clients)
    assert "notes" not in response.json()
    response = await client.post("/controlnet/detect", json=pictures | {"controlnet_masks": [PICTURE], "masks": 1})
    assert response.json()["notes"] == [
        "`controlnet_masks` is a list, and was ignored: masks are not supported.",
        "There is no field `masks`. It was ignored.",
    ]


async def test_png_info_notes_unknown_fields(client: httpx2.AsyncClient) -> None:
    response = await client.post("/sdapi/v1/png-info", json={"image": PICTURE, "imgae": PICTURE})
    assert response.status_code == 200
    assert response.json()["notes"] == ["There is no field `imgae`; did you mean `image`? It was ignored."]
    assert "notes" not in (await client.post("/sdapi/v1/png-info", json={"image": PICTURE})).json()
