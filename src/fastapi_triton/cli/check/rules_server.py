# SPDX-License-Identifier: Apache-2.0
"""Rules for a running Triton and its models, from the facts that `probe` reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi_triton.cli.check.rule import ERROR, NOTE, WARNING, Rules
from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.model_config import ModelConfig, fits, from_server


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts about Triton itself."""

    version: str
    has_shared_memory: bool
    trace_mode: str  # "" if the server has no tracing

    @property
    def release(self) -> tuple[int, int]:
        """(2, 51) of "2.51.0"."""
        major, minor, *_ = (*self.version.split("."), "0", "0")
        return int(major), int("".join(each for each in minor if each.isdigit()) or 0)


@dataclass(frozen=True, slots=True)
class Output:
    """An output in the response to a trial: wire datatype and shape, including the batch dimension."""

    name: str
    wire: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One request of zeros and empty texts: the outputs of its response, or the error text."""

    outputs: tuple[Output, ...] = ()
    rejection: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model at this Triton.

    Args:
        raw: its config as Triton returns it; None if it is not loaded.
        text: the config in its folder, if there is a repository.
        mean_s: mean seconds per request since Triton's start.
    """

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


@RULES.add("no-is-cancelled", WARNING, advice="Update to 25.06 or newer.")
def no_is_cancelled(server: ServerFacts) -> Iterator[str]:
    """Before 23.10, Python models cannot detect a disconnect, and keep working."""
    if server.release < (2, 39):
        yield f"this is Triton {server.version}; 23.10 is 2.39"


@RULES.add("no-response-sender", WARNING, advice="Update to 25.06 or newer.")
def no_response_sender(server: ServerFacts) -> Iterator[str]:
    """Before 24.06, Python models that are not decoupled cannot respond from their own threads."""
    if server.release < (2, 47):
        yield f"this is Triton {server.version}; 24.06 is 2.47"


@RULES.add("cancel-may-crash", NOTE, advice="Update to 25.06 or newer if other clients use gRPC.")
def cancel_may_crash(server: ServerFacts) -> Iterator[str]:
    """Before 25.06, cancelled gRPC requests have crashed Triton."""
    if server.release < (2, 59):
        yield f"this is Triton {server.version}; 25.06 is 2.59"


@RULES.add("shared-memory-off", NOTE, advice="Set --allow-client-shm=true if other clients need it.")
def shared_memory_off(server: ServerFacts) -> Iterator[str]:
    """Triton rejects tensors in shared memory."""
    if not server.has_shared_memory:
        yield "Triton registers no shared memory for clients"


@RULES.add("trace-context-lost", NOTE, advice="Set Triton's --trace-config mode=opentelemetry.")
def trace_context_lost(server: ServerFacts) -> Iterator[str]:
    """Outside of OpenTelemetry mode, Triton's spans are missing from traces."""
    if server.trace_mode != "opentelemetry":
        yield f"Triton's trace mode is {server.trace_mode or 'off'}"


@MODEL_RULES.add("dead-stub", ERROR, advice="Unload and load the model, or restart Triton.")
def dead_stub(model: ServedModel) -> Iterator[str]:
    """The stub process has died, and Triton does not restart it."""
    if model.is_dead and model.raw is not None:
        yield "Triton has loaded the model, but its stub process is dead"


@MODEL_RULES.add("not-loaded", ERROR, advice="Read the reason in Triton's log; in explicit mode, load the model.")
def not_loaded(model: ServedModel) -> Iterator[str]:
    """A declared model, or one in the repository, is not loaded."""
    if model.raw is None:
        yield "Triton has not loaded the model"


@MODEL_RULES.add("config-differs", WARNING, advice="Deploy your files, or copy the served config into them.")
def config_differs(model: ServedModel) -> Iterator[str]:
    """Triton's contract differs from the files."""
    live, text = model.config, model.text
    if live is None or text is None or live == text:
        return
    if (live.max_batch_size, live.decoupled) != (text.max_batch_size, text.decoupled):
        yield (
            f"Triton has max_batch_size {live.max_batch_size}, decoupled {live.decoupled}; the file has "
            f"{text.max_batch_size}, {text.decoupled}"
        )
    for side, ours, theirs in (("input", text.inputs, live.inputs), ("output", text.outputs, live.outputs)):
        for tensor in sorted({each.name for each in {*ours} ^ {*theirs}}):
            yield f"the {side} `{tensor}` differs"


@MODEL_RULES.add("slow-model", WARNING, advice="Set request_timeout_s to several times the usual duration.")
def slow_model(model: ServedModel) -> Iterator[str]:
    """Requests that time out keep running at Triton, while clients retry."""
    if model.mean_s > model.settings.request_timeout_s / 2:
        yield f"a request takes {model.mean_s:.1f} s on average, but request_timeout_s is " + (
            f"{model.settings.request_timeout_s:g}"
        )


@MODEL_RULES.add("compressed-reply", WARNING, advice="Turn compression off in this proxy.")
def compressed_reply(model: ServedModel) -> Iterator[str]:
    """A proxy compresses responses, which saves nothing for pictures."""
    if model.content_encoding not in ("", "identity"):
        yield f"a response had Content-Encoding: {model.content_encoding}"


@MODEL_RULES.add("reply-mismatch", ERROR, advice="Correct the model or the config.")
def reply_mismatch(model: ServedModel) -> Iterator[str]:
    """The model returns other tensors than the config declares (--trial only)."""
    config = model.config
    if config is None or model.trial is None or model.trial.rejection is not None:
        return
    outputs = {each.name: each for each in model.trial.outputs}
    for output in config.outputs:
        returned = outputs.get(output.name)
        expected = ((-1,) if config.is_batched else ()) + output.dims
        if returned is None:
            yield f"`{output.name}` is missing from the response"
        elif returned.wire != output.datatype.wire:
            yield f"`{output.name}` has the datatype {returned.wire}, but the config declares {output.datatype.config}"
        elif not fits(returned.shape, expected):
            yield f"`{output.name}` has the shape {list(returned.shape)}, but the config declares {list(expected)}"


@MODEL_RULES.add("trial-refused", NOTE, advice="Ignore this if the model should reject them.")
def trial_refused(model: ServedModel) -> Iterator[str]:
    """The model rejected the trial's zeros and empty texts."""
    if model.trial is not None and model.trial.rejection is not None:
        yield model.trial.rejection


# These rules need the response to a trial.
NEED_TRIAL = (reply_mismatch, trial_refused)
