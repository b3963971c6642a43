# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
from diffusion_engine.capabilities import SDXL_SIZES, Capabilities
from diffusion_engine.picture_sizes import choose_size
from diffusion_engine.request_parser import check_presets
from drawings import CHECKPOINT


def test_demo_checkpoint_describes_itself() -> None:
    capabilities = Capabilities.of_checkpoint(str(CHECKPOINT))
    assert (capabilities.defaults.width, capabilities.defaults.height) == (256, 256)
    assert capabilities.defaults.num_inference_steps == 6
    assert (160, 96) in capabilities.sizes
    assert set(capabilities.presets) == {"draft", "fast", "quality"}


@pytest.mark.parametrize("size", [size for size in SDXL_SIZES if max(size) < 1536])
def test_demo_checkpoint_is_upscaled_to_the_sizes_of_sdxl(size: tuple[int, int]) -> None:
    chosen = choose_size(Capabilities.of_checkpoint(str(CHECKPOINT)), *size, scribble_size=(100, 100))
    assert (chosen.sent, chosen.is_upscaled) == (size, True)


def test_checkpoint_without_serving_json_has_the_capabilities_of_sdxl(tmp_path: Path) -> None:
    for name in ("stabilityai/stable-diffusion-xl-base-1.0", str(tmp_path)):
        capabilities = Capabilities.of_checkpoint(name)
        assert capabilities.sizes == SDXL_SIZES
        assert (capabilities.defaults.num_inference_steps, capabilities.defaults.guidance_scale) == (30, 5.0)


def test_words_for_people_are_a_part_of_the_description(tmp_path: Path) -> None:
    words = {"about": "It paints houses.", "suggestions": {"things": ["a house"] * 499, "colours": ["red"]}}
    sizes = {"sizes": [[1024, 1024]]}
    (tmp_path / "serving.json").write_text(json.dumps(words | sizes))
    described = Capabilities.of_checkpoint(str(tmp_path)).describe()
    assert described["about"] == words["about"]
    assert json.loads(json.dumps(described["suggestions"])) == words["suggestions"]


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
        ({"suggestions": {"things": "a house"}}, "suggestions must be lists of texts"),
        ({"suggestions": {"things": ["a house"] * 501}}, "more than 500 suggestions"),
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
