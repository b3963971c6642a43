# SPDX-License-Identifier: Apache-2.0
"""Sequence models: the fields `sequence_id`, `sequence_start` and `sequence_end` of a request.

Triton keeps a sequence on one instance of the model, whose state belongs to the sequence. It takes one row per request.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from pydantic_core import ErrorDetails

from fastapi_triton.core.errors import InvalidRequestError, invalid_field
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints.value_errors import InvalidValueError, invalid_value
from fastapi_triton.triton.client import Parameters
from fastapi_triton.triton.model_config import ModelConfig, SequenceBatching

ID, START, END = FIELDS = ("sequence_id", "sequence_start", "sequence_end")
# The beginning and end of Triton's message for a sequence that has not begun, or was forgotten.
_NOT_STARTED = "must specify the START flag on the first request of the sequence"
# The beginning of the Python backend's message for text ids, of which it takes the padding for another text.
_UNREADABLE_ID = "unexpected number of string elements"
_NUMBER = re.compile(r"[1-9][0-9]{0,19}")
# Triton's limits.
_MAX_ID_BYTES = 128
# The limit for models that see their text ids. Triton 2.51 copies an id into 132 bytes. Python models fail to read the
# rest of them, and with an id of 125 to 127 bytes their process dies.
_MAX_SEEN_ID_BYTES = 124
_MAX_ID = 2**64 - 1


def of_ensemble(
    config: ModelConfig, models: Callable[[str], ModelConfig | None], *, seen: frozenset[str] = frozenset()
) -> SequenceBatching | None:
    """The sequences of a model, or of an ensemble's first step that has some: Triton passes it the id of the request.

    `models` returns the config of a model, if it is known.
    """
    steps = [step for name in config.steps if name not in seen and (step := models(name)) is not None]
    found = (of_ensemble(step, models, seen=seen | {config.name}) for step in steps)
    return config.sequences or next((each for each in found if each is not None), None)


def obstacles(config: ModelConfig, *, keeps_sequences: bool) -> list[str]:
    """The reasons why a sequence model cannot have an endpoint."""
    if not keeps_sequences:
        return [
            "it is a sequence model, whose requests must reach the same Triton, but the cluster chooses a Triton for "
            "each request; serve the model with one Triton outside of the cluster"
        ]
    if config.decoupled:
        return [
            "it is a decoupled sequence model, and Triton's generate_stream carries no sequence id; send its requests "
            "to Triton by gRPC (ModelStreamInfer)"
        ]
    return [
        f"it is a sequence model, and its input `{name}` has the name of a field that such requests need; use /v2"
        for name in FIELDS
        if config.input(name)
    ]


def problems(row: Mapping[str, Any], batching: SequenceBatching) -> list[ErrorDetails]:
    """The problems of the fields of a sequence in a body."""
    details: list[ErrorDetails] = []
    if ID not in row:
        details.append(ErrorDetails(type="missing", loc=(ID,), msg="", input=...))
    elif (problem := _problem_of_id(row[ID], batching)) is not None:
        details += problem.details(ID)
    for name in (START, END):
        if not isinstance(row.get(name, False), bool):
            reason = f"is {described(row[name])}; it must be true or false"
            details += invalid_value("wrong_type", reason).details(name)
    return details


def _problem_of_id(value: Any, batching: SequenceBatching) -> InvalidValueError | None:
    if isinstance(value, str) and batching.takes_text_ids:
        if 1 <= len(value.encode()) <= max_id_bytes(batching):
            return None
        code = "too_long" if value else "too_short"
        return invalid_value(code, f"has {len(value.encode()):,} bytes; it must have 1 to {max_id_bytes(batching)}")
    if isinstance(value, int) and not isinstance(value, bool) and batching.takes_number_ids:
        if 1 <= value <= max_id(batching):
            return None
        return invalid_value("out_of_range", f"is {described(value)}; it must be from 1 to {max_id(batching)}")
    return invalid_value("wrong_type", f"is {described(value)}; it must be {_allowed(batching)}")


def max_id(batching: SequenceBatching) -> int:
    """The largest id. The model sees the id in its control input, where larger ones would lose bits."""
    return _MAX_ID if batching.id_datatype is None else batching.id_datatype.integer_range[1]


def max_id_bytes(batching: SequenceBatching) -> int:
    """The most bytes of a text id."""
    return _MAX_ID_BYTES if batching.id_datatype is None else _MAX_SEEN_ID_BYTES


def _allowed(batching: SequenceBatching) -> str:
    kinds = ["text"] * batching.takes_text_ids + ["a whole number"] * batching.takes_number_ids
    return " or ".join(kinds)


def parameters(row: Mapping[str, Any]) -> Parameters:
    """Triton's parameters of a request to a sequence model."""
    return {ID: row[ID], START: row.get(START, False), END: row.get(END, False)}


def explained(error: InvalidRequestError, batching: SequenceBatching) -> InvalidRequestError:
    """The error, with the field and the reason if Triton forgot the sequence, or the model cannot read its id."""
    if _UNREADABLE_ID in error.detail and not batching.takes_number_ids:
        detail = (
            f"{error.detail}. The config shows the model the id as TYPE_STRING, which Triton's Python backend cannot "
            "read; use TYPE_UINT64 there, and numbers as ids."
        )
        return invalid_field(ID, error.code, detail)
    if _NOT_STARTED not in error.detail:
        return error
    detail = (
        f"{error.detail}. Send `{START}: true` first. Triton forgets a sequence after `{END}: true`, after "
        f"{batching.max_idle_s:g} s without a request, and when the model is loaded again."
    )
    return invalid_field(START, "unknown_sequence", detail)


def jobs_refusal(config: ModelConfig) -> InvalidRequestError:
    """The error for a request that shall become a background job."""
    return InvalidRequestError(
        f"{config.name} is a sequence model, and background jobs run in any order. Send the request without "
        "`Prefer: respond-async` and `Idempotency-Key`.",
        code="no_jobs_for_sequences",
    )


def json_of_text(name: str, text: str, batching: SequenceBatching) -> bytes:
    """The JSON of a field in a form."""
    is_json = text in ("true", "false") if name != ID else batching.takes_number_ids and _NUMBER.fullmatch(text)
    return text.encode() if is_json else orjson.dumps(text)


def add_to_schema(schema: dict[str, Any], batching: SequenceBatching) -> None:
    """Add the fields to a request's JSON Schema."""
    kinds: list[dict[str, Any]] = []
    if batching.takes_text_ids:
        kinds.append({"type": "string", "minLength": 1, "maxLength": max_id_bytes(batching)})
    if batching.takes_number_ids:
        kinds.append({"type": "integer", "minimum": 1, "maximum": max_id(batching)})
    value = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    schema["required"].append(ID)
    schema["properties"] |= {
        ID: {**value, "description": "The request's sequence. Choose an id that no other client uses."},
        START: {"type": "boolean", "default": False, "description": "Whether the request begins the sequence."},
        END: {"type": "boolean", "default": False, "description": "Whether the request ends the sequence."},
    }


def example(batching: SequenceBatching) -> dict[str, Any]:
    """The fields of the first request of a sequence."""
    return {ID: 1 if batching.takes_number_ids else "a", START: True, END: False}


def description(batching: SequenceBatching) -> str:
    """How to send a sequence."""
    return (
        "The model keeps state between the requests of a sequence. Send a sequence's next request after the response "
        f"to the one before: concurrent requests run in any order. Triton forgets a sequence after "
        f"{batching.max_idle_s:g} s without a request. A request without a response may have changed the state: begin "
        "a new sequence."
    )
