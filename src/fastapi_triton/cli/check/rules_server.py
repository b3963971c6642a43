# SPDX-License-Identifier: Apache-2.0
"""Rules over a running Triton, from what `probe` asked it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi_triton.cli.check.rule import ERROR, NOTE, WARNING, Rules
from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.model_config import ModelConfig, from_server


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What Triton says of itself."""

    version: str
    has_shared_memory: bool
    trace_mode: str  # "" where the server has no tracing

    @property
    def release(self) -> tuple[int, int]:
        """(2, 51) of "2.51.0"."""
        major, minor, *_ = (*self.version.split("."), "0", "0")
        return int(major), int("".join(each for each in minor if each.isdigit()) or 0)


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a trial reply: wire datatype and shape, the batch included."""

    name: str
    wire: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One request of zeros and empty texts: its reply, or the words of its refusal."""

    outputs: tuple[Output, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as this Triton has it. `raw` is None where it is not loaded; `text` is the config of its folder, if one
    was given; durations are means since Triton's start."""

    name: str
    is_dead: bool
    raw: Mapping[str, Any] | None
    settings: Settings
    text: ModelConfig | None = None
    content_encoding: str = ""
    mean_s: float = 0.0
    trial: Trial | None = None

    @property
    def config(self) -> ModelConfig | None:
        return None if self.raw is None else from_server(self.raw)


RULES: Rules[ServerFacts] = Rules()
MODEL_RULES: Rules[ServedModel] = Rules()


@RULES.add("no-is-cancelled", WARNING, advice="Update Triton to 25.06 or newer.")
def no_is_cancelled(server: ServerFacts) -> Iterator[str]:
    """Before 23.10 a Python model cannot ask is_cancelled(), so work goes on for callers who left."""
    if server.release < (2, 39):
        yield f"this is Triton {server.version}; 23.10 is 2.39"


@RULES.add("no-response-sender", WARNING, advice="Update Triton to 25.06 or newer.")
def no_response_sender(server: ServerFacts) -> Iterator[str]:
    """Before 24.06 a Python model that is not decoupled cannot answer later from its own threads, as
    sdxl_scribble_controlnet does."""
    if server.release < (2, 47):
        yield f"this is Triton {server.version}; 24.06 is 2.47"


@RULES.add("cancel-may-crash", NOTE, advice="Update Triton to 25.06 or newer where others call it over gRPC.")
def cancel_may_crash(server: ServerFacts) -> Iterator[str]:
    """Before 25.06 cancelled gRPC requests have crashed Triton. Over HTTP, which this frontend speaks, no such case is
    known."""
    if server.release < (2, 59):
        yield f"this is Triton {server.version}; 25.06 is 2.59"


@RULES.add(
    "shared-memory-off",
    NOTE,
    advice="Start Triton with --allow-client-shm=true if other clients on its machine need it.",
)
def shared_memory_off(server: ServerFacts) -> Iterator[str]:
    """Clients that pass tensors in shared memory are refused. The frontend passes none."""
    if not server.has_shared_memory:
        yield "Triton registers none for clients"


@RULES.add(
    "trace-context-lost",
    NOTE,
    advice="Start Triton with --trace-config mode=opentelemetry and rate=0, which traces only requests that carry one.",
)
def trace_context_lost(server: ServerFacts) -> Iterator[str]:
    """Triton takes up a caller's `traceparent` only in its OpenTelemetry mode; else its spans are missing from the
    trace without a word."""
    if server.trace_mode != "opentelemetry":
        yield f"its trace mode is {server.trace_mode or 'off'}"


@MODEL_RULES.add(
    "dead-stub",
    ERROR,
    advice="Unload and load the model, or restart Triton. Probe the frontend's /health/ready, which knows, rather "
    "than Triton's own.",
)
def dead_stub(model: ServedModel) -> Iterator[str]:
    """The process of a Python model has died. Triton never starts it again, so every request to the model fails. Before
    26.01 Triton goes on calling the model ready, and only --trial shows its death."""
    if model.is_dead and model.raw is not None:
        yield "Triton has it loaded, but its process is dead"


@MODEL_RULES.add("not-loaded", ERROR, advice="Look into Triton's log for the reason; in explicit mode, load it.")
def not_loaded(model: ServedModel) -> Iterator[str]:
    """A model that is declared or in the repository is not loaded by this Triton."""
    if model.raw is None:
        yield "Triton has not loaded it"


@MODEL_RULES.add("config-differs", WARNING, advice="Deploy the files, or bring them up to date.")
def config_differs(model: ServedModel) -> Iterator[str]:
    """The Triton that runs serves another contract than the files say."""
    live, text = model.config, model.text
    if live is None or text is None or live == text:
        return
    if (live.max_batch_size, live.decoupled) != (text.max_batch_size, text.decoupled):
        yield (
            f"max_batch_size {live.max_batch_size}, decoupled {live.decoupled}; in the file {text.max_batch_size}, "
            f"{text.decoupled}"
        )
    for side, ours, theirs in (("input", text.inputs, live.inputs), ("output", text.outputs, live.outputs)):
        for tensor in sorted({each.name for each in {*ours} ^ {*theirs}}):
            yield f"the {side} `{tensor}` is another one"


@MODEL_RULES.add("slow-model", WARNING, advice="Set request_timeout_s to several times the model's usual duration.")
def slow_model(model: ServedModel) -> Iterator[str]:
    """A request that the frontend gives up on still runs to its end at Triton, and its caller asks again."""
    if model.mean_s > model.settings.request_timeout_s / 2:
        yield f"a request takes {model.mean_s:.1f} s on average, and request_timeout_s is " + (
            f"{model.settings.request_timeout_s:g}"
        )


@MODEL_RULES.add("compressed-reply", WARNING, advice="Switch compression off in the proxy before Triton.")
def compressed_reply(model: ServedModel) -> Iterator[str]:
    """Compressing a picture's reply costs ten times the CPU of the reply, and gains nothing. The frontend asks Triton
    for plain replies, so something between them compresses."""
    if model.content_encoding not in ("", "identity"):
        yield f"a reply came with Content-Encoding: {model.content_encoding}"


@MODEL_RULES.add("reply-mismatch", ERROR, advice="Correct the model or the config.")
def reply_mismatch(model: ServedModel) -> Iterator[str]:
    """The model answers other tensors than its config promises; Triton does not look, and callers break on it. Looked
    at with --trial only."""
    config = model.config
    if config is None or model.trial is None or model.trial.refused is not None:
        return
    replied = {each.name: each for each in model.trial.outputs}
    for output in config.outputs:
        reply = replied.get(output.name)
        expected = ((-1,) if config.is_batched else ()) + output.dims
        if reply is None:
            yield f"`{output.name}` is missing from the reply"
        elif reply.wire != output.datatype.wire:
            yield f"`{output.name}` came as {reply.wire}, but the config says {output.datatype.config}"
        elif len(reply.shape) != len(expected) or any(
            dim not in (-1, size) for size, dim in zip(reply.shape, expected, strict=True)
        ):
            yield f"`{output.name}` came with the shape {list(reply.shape)}, but the config says {list(expected)}"


@MODEL_RULES.add("trial-refused", NOTE, advice="Nothing, if that is right; with --trial only.")
def trial_refused(model: ServedModel) -> Iterator[str]:
    """The model does not take a request of zeros and empty texts, so its reply could not be looked at."""
    if model.trial is not None and model.trial.refused is not None:
        yield model.trial.refused


# These rules need the reply to a trial.
NEED_TRIAL = (reply_mismatch, trial_refused)
