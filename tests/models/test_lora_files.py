# SPDX-License-Identifier: Apache-2.0
"""LoRA files: formats, those that do not fit, the request's field, and the cache."""

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusion_engine.capabilities import Capabilities, KnownLoRA
from diffusion_engine.config import EngineConfig
from diffusion_engine.errors import RequestError
from diffusion_engine.loras.adapter import Adapter, AdapterCache
from diffusion_engine.loras.files import LoRAFile, examine
from diffusion_engine.loras.library import LoRALibrary, lora_paths
from diffusion_engine.request import LoRA
from diffusion_engine.request_parser import parse_request
from lora_files import ATTENTION, CONVOLUTIONS, Tensors, prefixed, random_changes, save_diffusers, save_kohya, save_peft
from safetensors.torch import save_file

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CPU = torch.device("cpu")


@pytest.fixture
def changes(pipeline: Any) -> Tensors:
    return prefixed(random_changes(pipeline.unet, ATTENTION, rank=4, seed=1, size=0.3), "unet")


def library(*files: LoRAFile, pipeline: Any, max_bytes: int = 2**30) -> LoRALibrary:
    return LoRALibrary(list(files), pipeline, CPU, max_bytes=max_bytes)


def loaded(path: Path, pipeline: Any) -> tuple[LoRALibrary, Adapter]:
    found = library(examine("own", path, pipeline), pipeline=pipeline)
    ((adapter, _),) = found.adapters((LoRA(name="own", scale=1.0),))
    return found, adapter


def change_of(found: LoRALibrary, adapter: Adapter, layer: str) -> torch.Tensor:
    """What an adapter adds to the weight of a layer."""
    return adapter.up[:, found.layout.outputs[layer]].T @ adapter.down[:, found.layout.inputs[layer]]


def test_scale_of_0_is_no_lora(tmp_path: Path, pipeline: Any, changes: Tensors) -> None:
    save_peft(tmp_path / "own.safetensors", changes)
    found = library(examine("own", tmp_path / "own.safetensors", pipeline), pipeline=pipeline)
    assert found.adapters((LoRA(name="own", scale=0.0),)) == ()
    assert len(found.prepare((LoRA(name="own", scale=0.0),))) == 1  # the receipt has it


def test_passes_warm_up_with_each_kind_of_adapter_that_the_files_have(tmp_path: Path, pipeline: Any) -> None:
    for name, suffixes in (("linear", ATTENTION), ("all", (*ATTENTION, *CONVOLUTIONS)), ("more", CONVOLUTIONS)):
        tensors = random_changes(pipeline.unet, suffixes, rank=1, seed=1, size=0.1)
        save_peft(tmp_path / f"{name}.safetensors", prefixed(tensors, "unet"))
    linear, *others = (examine(name, tmp_path / f"{name}.safetensors", pipeline) for name in ("linear", "all", "more"))

    def kinds(*files: LoRAFile) -> list[bool]:
        return [adapter.has_convolutions for ((adapter, _),) in library(*files, pipeline=pipeline).without_effect()]

    assert kinds(*others) == [True]
    assert kinds(linear, *others) == [False, True]
    assert kinds(linear, replace(others[0], unusable="It is broken.")) == [False]
    assert kinds() == []


def test_formats_give_the_same_changes(tmp_path: Path, pipeline: Any, changes: Tensors) -> None:
    save_peft(tmp_path / "peft.safetensors", changes)
    save_diffusers(tmp_path / "diffusers.safetensors", changes)
    save_kohya(tmp_path / "kohya.safetensors", changes, alpha=4.0)  # the rank
    save_peft(tmp_path / "alpha.safetensors", changes, {"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": None})
    expected = changes[f"unet.{LAYER}.lora_B.weight"] @ changes[f"unet.{LAYER}.lora_A.weight"]
    for file in tmp_path.iterdir():
        assert torch.allclose(change_of(*loaded(file, pipeline), LAYER), expected, atol=1e-5), file.name


def test_alphas_scale_each_layer(tmp_path: Path, pipeline: Any, changes: Tensors) -> None:
    expected = changes[f"unet.{LAYER}.lora_B.weight"] @ changes[f"unet.{LAYER}.lora_A.weight"]
    save_kohya(tmp_path / "kohya.safetensors", changes, alpha=1.0)
    settings = {"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {"attn1.to_q": 2}, "unet.use_rslora": True}
    save_peft(tmp_path / "peft.safetensors", changes, settings)
    for name, factor in (("kohya", 0.25), ("peft", 1.0)):
        own = change_of(*loaded(tmp_path / f"{name}.safetensors", pipeline), LAYER)
        assert torch.allclose(own, expected * factor, atol=1e-5), name


def test_kohyas_names_of_stabilitys_blocks_are_known(tmp_path: Path, pipeline: Any) -> None:
    file = tmp_path / "own.safetensors"
    name = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"
    width = pipeline.unet.get_submodule(LAYER).in_features
    save_file({f"{name}.lora_down.weight": torch.ones(2, width), f"{name}.lora_up.weight": torch.ones(width, 2)}, file)
    assert examine("own", file, pipeline).layers == (LAYER,)


def wrong_files(changes: Tensors, width: int) -> dict[str, tuple[Tensors, dict[str, str], str]]:
    """Files by name, with their metadata and a part of the reason why they cannot be used."""
    text = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    sd15 = {f"{text}.lora_down.weight": torch.ones(2, 768), f"{text}.lora_up.weight": torch.ones(64, 2)}
    flux = {
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 8),
        "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(8, 2),
    }
    more = {"unet.down_blocks.9.to_q.lora_A.weight": torch.ones(2, 8)}
    more["unet.down_blocks.9.to_q.lora_B.weight"] = torch.ones(8, 2)
    down, up = f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight"
    inputs, outputs = changes[down].shape[1], len(changes[up])
    empty = {**changes, down: torch.ones(0, inputs), up: torch.ones(outputs, 0)}
    return {
        "sd15": (
            sd15,
            {},
            f"It is for Stable Diffusion 1; this checkpoint is a UNet that reads texts of width {width}.",
        ),
        "flux": (flux, {}, "It is for a transformer, such as FLUX"),
        "more layers": ({**changes, **more}, {}, "the layer down_blocks.9.to_q does not exist"),
        "other": (more, {"ss_base_model_version": "sd_v2"}, "It is for sd_v2; this checkpoint is"),
        "other ranks": ({**changes, down: torch.ones(3, inputs)}, {}, "has matrices of rank 3 and 4"),
        "no rank": (empty, {}, f"has no matrices, but tensors of shape ({outputs}, 0) and (0, {inputs})"),
        "no rank, scaled": (empty, {"lora_adapter_metadata": '{"unet.lora_alpha": 1}'}, "cannot convert it"),
        "a vector": ({**changes, up: torch.ones(outputs)}, {}, f"has no matrices, but tensors of shape ({outputs},)"),
        "half": ({name: each for name, each in changes.items() if "lora_B" not in name}, {}, "cannot convert it"),
        "lokr": ({"lora_unet_x.lokr_w1": torch.ones(2, 2)}, {}, "It is a LoKr"),
        "dora": ({**changes, f"unet.{LAYER}.lora_magnitude_vector": torch.ones(64)}, {}, "It is a DoRA"),
        "deep": (changes, {"lora_adapter_metadata": "[" * 100_000}, "cannot convert it"),
        "nothing": ({"weight": torch.ones(2)}, {}, "changes no layer"),
    }


def test_files_that_do_not_fit_are_listed_with_the_reason(
    tmp_path: Path, pipeline: Any, changes: Tensors, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (tensors, metadata, reason) in wrong_files(changes, pipeline.unet.config.cross_attention_dim).items():
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata=metadata)
        with caplog.at_level(logging.WARNING):
            found = examine(name, tmp_path / f"{name}.safetensors", pipeline)
        assert reason in found.unusable, name
        assert found.unusable in caplog.text
    (tmp_path / "text.safetensors").write_bytes(b"this is text")
    assert "cannot be read" in examine("text", tmp_path / "text.safetensors", pipeline).unusable


def test_files_that_change_after_the_start_are_refused(tmp_path: Path, pipeline: Any, changes: Tensors) -> None:
    file = tmp_path / "own.safetensors"
    save_peft(file, {name: each for name, each in changes.items() if LAYER in name})
    found = library(examine("own", file, pipeline), pipeline=pipeline)
    broken = {name: each.clone().fill_(torch.nan) if LAYER in name else each for name, each in changes.items()}
    for tensors, reason in ((changes, "replaced"), (broken, "not finite"), (None, "cannot be read")):
        file.unlink(missing_ok=True)
        if tensors is not None:
            save_peft(file, tensors)
        with pytest.raises(RequestError, match=reason) as raised:
            found.prepare((LoRA(name="own", scale=1.0),))
        assert (raised.value.code, raised.value.field) == ("unusable_lora", "loras")
        assert str(tmp_path) not in raised.value.detail


def test_a_name_stays_the_same_adapter(tmp_path: Path, pipeline: Any, changes: Tensors) -> None:
    """Even if it was dropped from the cache meanwhile: receipts have the hash of the first file."""
    file = tmp_path / "own.safetensors"
    save_peft(file, changes)
    examined = examine("own", file, pipeline)
    num_bytes = library(examined, pipeline=pipeline).adapters((LoRA(name="own", scale=1.0),))[0][0].num_bytes
    save_peft(tmp_path / "other.safetensors", changes)
    other = examine("other", tmp_path / "other.safetensors", pipeline)
    found = library(examined, other, pipeline=pipeline, max_bytes=num_bytes)
    found.prepare((LoRA(name="own", scale=1.0),))
    save_peft(file, {name: 2 * each for name, each in changes.items()})
    found.prepare((LoRA(name="other", scale=1.0),))
    with pytest.raises(RequestError, match="replaced after it had been used"):
        found.prepare((LoRA(name="own", scale=1.0),))


def test_adapters_that_exceed_the_memory_are_refused(tmp_path: Path, pipeline: Any, changes: Tensors) -> None:
    for name in ("one", "two"):
        save_peft(tmp_path / f"{name}.safetensors", changes)
    large = dict(changes) | {
        f"unet.{LAYER}.lora_A.weight": torch.ones(500, 64),
        f"unet.{LAYER}.lora_B.weight": torch.ones(64, 500),
    }
    save_peft(tmp_path / "large.safetensors", large)
    files = [examine(name, tmp_path / f"{name}.safetensors", pipeline) for name in ("large", "one", "two")]
    known = library(*files, pipeline=pipeline, max_bytes=3 * 2**20).known
    assert known[0].unusable.startswith("With rank 500 it takes ")
    assert [each.unusable for each in known[1:]] == ["", ""]
    size = library(*files, pipeline=pipeline).adapters((LoRA(name="one", scale=1.0),))[0][0].num_bytes
    found = library(*files, pipeline=pipeline, max_bytes=2 * size - 1)
    with pytest.raises(RequestError, match="together"):
        found.prepare((LoRA(name="one", scale=1.0), LoRA(name="two", scale=1.0)))


def test_names_are_those_of_files_and_of_hub_folders(tmp_path: Path) -> None:
    checkpoint, further = tmp_path / "checkpoint", tmp_path / "lcm-lora"
    for file in (checkpoint / "loras" / "ink.safetensors", further / "pytorch_lora_weights.safetensors"):
        file.parent.mkdir(parents=True)
        file.touch()
    (checkpoint / "loras" / "readme.txt").touch()
    config = EngineConfig(checkpoint=str(checkpoint), loras=(str(further),))
    assert sorted(lora_paths(config)) == ["ink", "lcm-lora"]
    (further / "ink.safetensors").touch()
    with pytest.raises(ValueError, match="two LoRAs are named ink"):
        lora_paths(config)


@pytest.mark.parametrize(
    ("loras", "code", "detail"),
    [
        ([{"name": "inc"}], "unknown_lora", "the nearest name is 'ink'"),
        ([{"name": "oil paint"}], "unknown_lora", "this checkpoint has ink."),
        ([{"name": "broken"}], "unusable_lora", "It is for SDXL."),
        ([{"name": "ink", "scale": 4.5}], "out_of_range", "from -4 to 4"),
        ([{"name": "ink", "scale": float("nan")}], "not_finite", "finite"),
        ([{"name": "ink", "scale": 10**400}], "out_of_range", "from -4 to 4"),
        ([{"name": "ink", "scale": "1"}], "invalid_value", "scale"),
        ([{"name": "ink", "scale": True}], "invalid_value", "scale"),
        ([{"name": "ink"}, {"name": "ink"}], "invalid_value", "twice"),
        ([{"name": "ink", "weight": 1}], "invalid_value", "weight"),
        (9 * [{"name": "ink"}], "out_of_range", "at most 8"),
        ({"name": "ink"}, "invalid_value", "not a list"),
        ("[", "invalid_value", "not JSON"),
    ],
)
def test_invalid_fields_are_rejected(capabilities: Capabilities, loras: Any, code: str, detail: str) -> None:
    known = (KnownLoRA(name="ink"), KnownLoRA(name="broken", unusable="It is for SDXL."))
    text = loras if isinstance(loras, str) else json.dumps(loras)
    with pytest.raises(RequestError, match=detail) as raised:
        parse_request({"prompt": b"a", "loras": text.encode()}, replace(capabilities, loras=known))
    assert (raised.value.code, raised.value.field) == (code, "loras")


def test_omitted_scales_are_1(capabilities: Capabilities) -> None:
    known = replace(capabilities, loras=(KnownLoRA(name="ink"),))
    request = parse_request({"prompt": b"a", "loras": b'[{"name": "ink"}]'}, known)
    assert request.loras == (LoRA(name="ink", scale=1.0),)
    assert parse_request({"prompt": b"a", "loras": b""}, known).loras == ()


def adapter(num_bytes: int) -> Adapter:
    empty = torch.zeros(0, 0)
    return Adapter(sha256="", down=torch.zeros(1, num_bytes // 4), up=empty, has_convolutions=False, text=({}, {}))


def test_cache_drops_the_least_recently_used() -> None:
    loads: list[str] = []
    sizes = {"a": 400, "b": 400, "c": 400, "huge": 4000}
    cache = AdapterCache(lambda name: loads.append(name) or adapter(sizes[name]), max_bytes=1000)  # type: ignore[func-returns-value]
    for name in ("a", "b", "a", "c", "a", "b", "huge", "huge"):
        assert cache.get(name).num_bytes == sizes[name]
    assert loads == ["a", "b", "c", "b", "huge", "huge"]


def test_threads_that_want_the_same_adapter_load_it_once() -> None:
    is_loading, go_on = threading.Event(), threading.Event()
    loads: list[str] = []

    def load(name: str) -> Adapter:
        loads.append(name)
        is_loading.set()
        assert name == "other" or go_on.wait(60)
        return adapter(4)

    cache = AdapterCache(load, max_bytes=1000)
    found: list[Adapter] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("one"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert is_loading.wait(60)
    cache.get("other")  # does not wait for the first
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(loads) == ["one", "other"]
    assert len(set(map(id, found))) == 1
