# SPDX-License-Identifier: Apache-2.0
"""`/sdapi/v1/options`: A1111's settings, as far as this server has them."""

from collections.abc import Mapping
from typing import Any

from fastapi_triton.core.errors import InvalidRequestError, shown
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints.declared.model import DEFAULT_PREVIEW_EVERY
from fastapi_triton.endpoints.request_body import json_text, large_json, raw_body, validation
from fastapi_triton.pictures.a1111.checkpoints import OPTION
from fastapi_triton.pictures.a1111.saved_values import is_nothing, plain
from fastapi_triton.pictures.unserved_fields import MAX_NOTES

# Those that `override_settings` takes.
_OF_REQUESTS = (OPTION, "CLIP_stop_at_last_layers")


def current(checkpoint: str) -> dict[str, Any]:
    """The options, with the values that describe what this server does. `checkpoint` is the client's in `sd-models`."""
    return {
        OPTION: checkpoint,
        "sd_checkpoint_hash": "",
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
        "enable_pnginfo": True,
        "eta_noise_seed_delta": 0,
        "inpainting_mask_weight": 1.0,
        "face_restoration": False,
        "live_previews_enable": True,
        "show_progress_every_n_steps": DEFAULT_PREVIEW_EVERY,
        "control_net_unit_count": 1,
    }


async def read(body: bytes, max_text_bytes: int) -> Mapping[str, Any]:
    """The body of a request that sets options, a long one in a thread.

    Raises:
        FastAPITritonError: it is not a JSON object, or too large.
    """
    return await raw_body.process(len(body) > raw_body.LONG_BYTES, _parsed, body, max_text_bytes)


def _parsed(body: bytes, max_text_bytes: int) -> Mapping[str, Any]:
    validation.require_few_elements(body, validation.FEW_ELEMENTS)
    large_json.require_cheap(body, max_text_bytes)
    options = json_text.parse(body)
    json_text.require_unique_members(body, json_text.num_members(options))
    if not isinstance(options, Mapping):
        raise InvalidRequestError(f"The body is {described(options)}; it must be a JSON object.", code="wrong_type")
    return options


def notes(options: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """A note for each option that would change something, except the checkpoint: clients share a server."""
    ignored = [
        name
        for name, value in options.items()
        if name != OPTION
        and plain(value) != known.get(name)
        and not (is_nothing(value) and isinstance(known.get(name), str | None))
    ]
    found = [_note(name, options[name]) for name in ignored[:MAX_NOTES]]
    num_more = len(ignored) - MAX_NOTES
    return found if num_more <= 0 else [*found, f"{num_more:,} more options were ignored."]


def _note(name: str, value: Any) -> str:
    hint = " Send it in override_settings." if name in _OF_REQUESTS else ""
    return f"The option `{shown(name)}` is {described(value)}, and was ignored: clients cannot change it.{hint}"
