# SPDX-License-Identifier: Apache-2.0
"""A Triton model config as plain data: the inputs, outputs and limits of its requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fastapi_triton.core.errors import ContractError
from fastapi_triton.triton.datatypes import BY_CONFIG, Datatype
from fastapi_triton.triton.image_dims import DEFAULT_NORMALIZE, ImageDims, Normalize, image_dims

Content = Literal["text", "binary", "image", "base64_image"]
"""The content of a BYTES tensor: `image` is a file's bytes, `base64_image` their base64."""

# `parameters { key: "content.<tensor>" value { string_value: "image" } }` in config.pbtxt; Triton ignores it.
HINT = "content."
# `parameters { key: "normalize.<tensor>" value { string_value: "imagenet" } }`, for pictures in tensors of floats.
NORMALIZE_HINT = "normalize."
# The input for a request's remaining seconds. Our models have it, and others may.
TIMEOUT_INPUT = "timeout_s"
# The input for the priority of a request's caller: `interactive` or `batch`.
PRIORITY_INPUT = "queue_priority"
_FRONTEND_INPUTS = {TIMEOUT_INPUT: "FP32", PRIORITY_INPUT: "BYTES"}
# Triton's default of `max_sequence_idle_microseconds`.
_MAX_IDLE_US = 1_000_000


@dataclass(frozen=True, slots=True)
class TensorConfig:
    """One input or output. `dims` is without the batch dimension; -1 stands for any length.

    `allow_ragged_batch`: requests whose shapes differ may share a batch. `is_shape_tensor`: the tensor has no batch
    dimension on the wire. `has_labels`: an output with a `label_filename`.
    `format` is the config's `format`. `normalize` matters only for a picture of floats.
    """

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool = False
    content: Content | None = None
    allow_ragged_batch: bool = False
    is_shape_tensor: bool = False
    has_labels: bool = False
    format: str = ""
    normalize: Normalize = DEFAULT_NORMALIZE
    # The dims of a picture, if the tensor of numbers holds one.
    image: ImageDims | None = field(init=False, compare=False, repr=False)
    # Whether one plain value is valid: every dimension is 1 or free.
    is_scalar: bool = field(init=False, compare=False, repr=False)
    # Whether the tensor always has one value: every dimension is 1.
    is_single: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_scalar", all(dim in (1, -1) for dim in self.dims))
        object.__setattr__(self, "is_single", all(dim == 1 for dim in self.dims))
        image = image_dims(self.dims, self.datatype.wire, self.format)
        object.__setattr__(self, "image", image)
        if image is not None and self.normalize not in image.normalizations:
            object.__setattr__(self, "normalize", DEFAULT_NORMALIZE)


@dataclass(frozen=True, slots=True)
class SequenceBatching:
    """The sequences of a model that keeps state between requests.

    `id_datatype` is the datatype of the control input that shows the model a request's sequence id. None: there is no
    such input. Triton forgets a sequence after `max_idle_s` without a request.
    """

    id_datatype: Datatype | None = None
    max_idle_s: float = 1.0

    @property
    def takes_text_ids(self) -> bool:
        return self.id_datatype is None or self.id_datatype.kind == "bytes"

    @property
    def takes_number_ids(self) -> bool:
        return self.id_datatype is None or self.id_datatype.kind == "integer"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The part of a model config that a frontend needs.

    `parameters` are the config's free parameters as (key, value) pairs. `sequences` is None if requests need no
    sequence id; iterative scheduling needs none. `steps` are the models of an ensemble. `queue_timeout_s` is the
    longest wait in Triton's queue, if requests may shorten it; else None.
    """

    name: str
    max_batch_size: int
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    decoupled: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    sequences: SequenceBatching | None = None
    steps: tuple[str, ...] = ()
    queue_timeout_s: float | None = None
    # The model's optional inputs of one value that the frontend sets: `timeout_s` (FP32), `queue_priority` (text).
    frontend_inputs: frozenset[str] = field(init=False, compare=False, default=frozenset())
    inputs_by_name: Mapping[str, TensorConfig] = field(init=False, compare=False, repr=False)
    outputs_by_name: Mapping[str, TensorConfig] = field(init=False, compare=False, repr=False)
    # Those that hold pictures.
    image_inputs: tuple[TensorConfig, ...] = field(init=False, compare=False, repr=False)
    image_outputs: tuple[TensorConfig, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs_by_name", {tensor.name: tensor for tensor in self.inputs})
        object.__setattr__(self, "outputs_by_name", {tensor.name: tensor for tensor in self.outputs})
        object.__setattr__(self, "image_inputs", tuple(tensor for tensor in self.inputs if tensor.image is not None))
        object.__setattr__(self, "image_outputs", tuple(tensor for tensor in self.outputs if tensor.image is not None))
        taken = (name for name, wire in _FRONTEND_INPUTS.items() if self._takes(name, wire))
        object.__setattr__(self, "frontend_inputs", frozenset(taken))

    def _takes(self, name: str, wire: str) -> bool:
        given = self.input(name)
        return given is not None and given.optional and given.dims == (1,) and given.datatype.wire == wire

    @property
    def called_model(self) -> str | None:
        """The model that this one sends its requests to, as its parameter `stream_model` says."""
        return dict(self.parameters).get("stream_model")

    @property
    def is_batched(self) -> bool:
        """Whether the wire shape has a leading batch dimension that `dims` does not show."""
        return self.max_batch_size > 0

    @property
    def has_batch_dimension(self) -> bool:
        """Whether the tensors of a request have the rows as their first dimension. A stream adds it itself."""
        return self.is_batched and not self.decoupled

    @property
    def takes_batches(self) -> bool:
        """Whether a request may have several rows. Triton takes one row of a sequence at a time."""
        return self.has_batch_dimension and self.sequences is None

    def input(self, name: str) -> TensorConfig | None:
        return self.inputs_by_name.get(name)

    def output(self, name: str) -> TensorConfig | None:
        return self.outputs_by_name.get(name)

    @property
    def useless_hints(self) -> tuple[str, ...]:
        """Problems of the hints among the parameters. Hints with problems are ignored."""
        tensors = {tensor.name: tensor for tensor in (*self.outputs, *self.inputs)}
        problems = (_problem_of_hint(key, value, tensors) for key, value in self.parameters)
        return tuple(problem for problem in problems if problem)


def fits(shape: Sequence[int | None], dims: Sequence[int]) -> bool:
    """Whether the dims of a config allow the shape. None: a size that is not known."""
    return len(shape) == len(dims) and all(
        size is None or dim in (-1, size) for size, dim in zip(shape, dims, strict=True)
    )


def _problem_of_hint(key: str, value: str, tensors: Mapping[str, TensorConfig]) -> str:
    """The problem of one parameter. "": it has none, or is not a hint."""
    hint = next((each for each in (HINT, NORMALIZE_HINT) if key.startswith(each)), None)
    if hint is None:
        return ""
    tensor = tensors.get(key.removeprefix(hint))
    if tensor is None:
        return f"the parameter `{key}` names no input or output of the model"
    allowed: Sequence[str] = get_args(Content)
    if hint == NORMALIZE_HINT:
        allowed = tensor.image.normalizations if tensor.image else ()
        if not allowed:
            tensor_type = f"{tensor.datatype.config} with dims {list(tensor.dims)}"
            return f"the parameter `{key}` is for pictures of TYPE_FP32 or TYPE_FP16, not {tensor_type}"
    elif tensor.datatype.kind != "bytes":
        return f"the parameter `{key}` is for TYPE_STRING, not {tensor.datatype.config}"
    return "" if value in allowed else f"the parameter `{key}` is `{value}`, but must be one of {', '.join(allowed)}"


def from_server(config: Mapping[str, Any]) -> ModelConfig:
    """Read the response of `GET /v2/models/<name>/config` (the effective config, with auto-complete).

    Raises:
        ContractError: a datatype is unknown.
    """
    policy = config.get("model_transaction_policy") or {}
    parameters = {
        key: str(value.get("string_value", "")) for key, value in sorted((config.get("parameters") or {}).items())
    }
    return ModelConfig(
        name=config["name"],
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=_tensors(config.get("input", ()), parameters),
        outputs=_tensors(config.get("output", ()), parameters),
        decoupled=bool(policy.get("decoupled", False)),
        parameters=tuple(parameters.items()),
        sequences=_sequences(config),
        steps=tuple(step["model_name"] for step in (config.get("ensemble_scheduling") or {}).get("step", ())),
        queue_timeout_s=_queue_timeout_s(config),
    )


def _sequences(config: Mapping[str, Any]) -> SequenceBatching | None:
    batching = config.get("sequence_batching")
    # Until 24.01, `iterative_sequence` was called `generative_sequence`.
    if batching is None or batching.get("iterative_sequence") or batching.get("generative_sequence"):
        return None
    controls = [each for entry in batching.get("control_input", ()) for each in entry.get("control", ())]
    ids = [each.get("data_type", "") for each in controls if each.get("kind") == "CONTROL_SEQUENCE_CORRID"]
    idle_us = int(batching.get("max_sequence_idle_microseconds") or _MAX_IDLE_US)
    return SequenceBatching(BY_CONFIG.get(ids[0]) if ids else None, idle_us / 1e6)


def _queue_timeout_s(config: Mapping[str, Any]) -> float | None:
    policy = (config.get("dynamic_batching") or {}).get("default_queue_policy") or {}
    longest_us = int(policy.get("default_timeout_microseconds") or 0)
    # Without a default in the config, Triton ignores the request's timeout.
    return longest_us / 1e6 if policy.get("allow_timeout_override") and longest_us else None


def _tensors(entries: Sequence[Mapping[str, Any]], parameters: Mapping[str, str]) -> tuple[TensorConfig, ...]:
    return tuple(
        TensorConfig(
            name=entry["name"],
            datatype=_datatype(entry),
            dims=tuple(int(dim) for dim in entry["dims"]),
            optional=bool(entry.get("optional", False)),
            content=_content(entry, parameters),
            allow_ragged_batch=bool(entry.get("allow_ragged_batch", False)),
            is_shape_tensor=bool(entry.get("is_shape_tensor", False)),
            has_labels=bool(entry.get("label_filename")),
            format=str(entry.get("format", "")),
            normalize=_normalize(entry, parameters),
        )
        for entry in entries
    )


def _datatype(entry: Mapping[str, Any]) -> Datatype:
    name = entry.get("data_type", "TYPE_INVALID")
    if name not in BY_CONFIG:
        problem = f"`{entry['name']}` has the data_type {name}, which is not one of {', '.join(BY_CONFIG)}"
        raise ContractError(f"The model's config cannot be served: {problem}.", mismatches=[problem])
    return BY_CONFIG[name]


def _content(entry: Mapping[str, Any], parameters: Mapping[str, str]) -> Content | None:
    hint = parameters.get(HINT + entry["name"])
    is_text = entry.get("data_type") == "TYPE_STRING"
    return next((content for content in get_args(Content) if content == hint), None) if is_text else None


def _normalize(entry: Mapping[str, Any], parameters: Mapping[str, str]) -> Normalize:
    hint = parameters.get(NORMALIZE_HINT + entry["name"])
    return next((each for each in get_args(Normalize) if each == hint), DEFAULT_NORMALIZE)
