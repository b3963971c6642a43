# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
from diffusion_engine.capabilities import SDXL_SIZES, Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import check_presets


def test_demo_checkpoint_describes_itself(capabilities: Capabilities) -> None:
    assert (capabilities.defaults.width, capabilities.defaults.height) == (128, 128)
    assert capabilities.defaults.num_inference_steps == 12
    assert (160, 96) in capabilities.sizes


def test_checkpoint_without_serving_json_has_the_capabilities_of_sdxl(tmp_path: Path) -> None:
    for name in ("stabilityai/stable-diffusion-xl-base-1.0", str(tmp_path)):
        capabilities = Capabilities.of_checkpoint(name)
        assert capabilities.sizes == SDXL_SIZES
        assert (capabilities.defaults.num_inference_steps, capabilities.defaults.guidance_scale) == (30, 5.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defaults": {"steps": 3}}, "unknown defaults"),
        ({"sizes": [[64, 64]]}, "default size"),
        ({"schedulers": ["euler", "magic"]}, "unknown schedulers"),
        ({"schedulers": ["lcm"]}, "default scheduler"),
        ({"defaults": {"guidance_scale": "5"}}, "'5' as guidance_scale; its type must be int or float"),
        ({"defaults": {"output_format": "gif"}}, "default output_format"),
        ({"limits": {"max_loras": -1}}, "the limit max_loras must not be below 0"),
        ({"limits": {"max_loras": True}}, "True as max_loras"),
        ({"limits": []}, "limits is .*its type must be dict"),
        ({"sizes": [[1024, 1024], [0, 8]]}, "sizes must be"),
        ({"sizes": [1024, 1024]}, "sizes must be"),
        ({"preset": {}}, "unknown key 'preset' .did you mean presets"),
        ({"presets": {"": {}}}, "a preset needs a name"),
    ],
)
def test_checkpoint_that_contradicts_itself_does_not_load(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = {"name": "x", "sizes": [[1024, 1024]], **change}
    (tmp_path / "serving.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Capabilities.of_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("scribble_size", "size"),
    [((512, 512), (128, 128)), ((4000, 3000), (144, 112)), ((300, 520), (96, 160)), ((1920, 1080), (160, 96))],
)
def test_without_width_and_height_the_size_has_the_shape_of_the_scribble(
    capabilities: Capabilities, scribble_size: tuple[int, int], size: tuple[int, int]
) -> None:
    assert capabilities.choose_size(None, None, scribble_size=scribble_size) == size


def test_supported_size_is_used_with_any_scribble(capabilities: Capabilities) -> None:
    assert capabilities.choose_size(192, 128, scribble_size=(10, 500)) == (192, 128)
    assert capabilities.choose_size(192, None, scribble_size=(600, 400)) == (192, 128)


@pytest.mark.parametrize(
    ("width", "height", "field", "nearest"),
    [(1024, 1024, "width", "256x256"), (128, 130, "height", "128x128"), (130, None, "width", "128x128")],
)
def test_unsupported_size_is_rejected_with_the_nearest_one(
    capabilities: Capabilities, width: int, height: int | None, field: str, nearest: str
) -> None:
    with pytest.raises(RequestError, match=f"nearest size is {nearest}") as rejection:
        capabilities.choose_size(width, height, scribble_size=(100, 100))
    assert (rejection.value.code, rejection.value.field) == ("unsupported_size", field)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"num_inference_steps": 500}, "the defaults of x: `num_inference_steps` is 500; it must be from 1 to 100"),
        ({"guidance_scale": 99.0}, "`guidance_scale` is 99"),
        ({"output_quality": 0}, "`output_quality` is 0"),
    ],
)
def test_defaults_beyond_the_limits_do_not_load(tmp_path: Path, defaults: dict[str, object], message: str) -> None:
    (tmp_path / "serving.json").write_text(json.dumps({"name": "x", "defaults": defaults}))
    with pytest.raises(ValueError, match=message):
        check_presets(Capabilities.of_checkpoint(str(tmp_path)))
