# SPDX-License-Identifier: Apache-2.0
"""Rules for the sequence batcher: control tensors, strategies and states."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi_triton.cli.check import data_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, WARNING, Rules
from fastapi_triton.cli.check.rules_schedulers import preferred_batch_sizes
from fastapi_triton.triton.model_config import fits

RULES: Rules[ModelFolder] = Rules()
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
_NAMES = "'int32_false_true', 'fp32_false_true' and 'bool_false_true'"
_EITHER = f"either {_NAMES.replace(' and ', ' or ')}"
_CORRELATION_ID = "CONTROL_SEQUENCE_CORRID"
_CORRELATION_ID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


@RULES.add(
    "invalid-control",
    ERROR,
    advice="Give each control tensor a name and one `control` per kind: START, END and READY with two values of one "
    "type, CORRID with a data_type.",
)
def invalid_control(model: ModelFolder) -> Iterator[str]:
    """Triton rejects incomplete and duplicate controls."""
    tensors: Sequence[Mapping[str, Any]] = _batching(model).get("control_input", ())
    for name, count in Counter(each.get("name", "") for each in tensors).items():
        if not name:
            yield "sequence batching control tensor must have a name"
        elif count > 1:
            yield f"sequence batching control tensor '{name}' is specified for multiple control kinds: {count} times"
    controls = [control for tensor in tensors for control in tensor.get("control", ())]
    controls = [each for each in controls if isinstance(each["kind"], str)]  # Triton ignores unknown kinds, as numbers
    for kind, count in Counter(each["kind"] for each in controls).items():
        if count > 1:
            yield f"sequence batching specifies multiple {kind} tensors: {count}"
    for control in controls:
        yield from _correlation_id(control) if control["kind"] == _CORRELATION_ID else _boolean(control)


def _boolean(control: Mapping[str, Any]) -> Iterator[str]:
    given = [name for name in _VALUES if control.get(name)]
    if not given:
        yield f"sequence batching must specify {_EITHER} for {control['kind']}"
    elif len(given) > 1:
        names = " and ".join(given)
        yield f"sequence batching specifies more than one from {_NAMES} for {control['kind']}: {names}"
    elif (count := len(control[given[0]])) != 2:
        yield f"sequence batching control '{given[0]}' must have exactly 2 entries for {control['kind']}, not {count}"


def _correlation_id(control: Mapping[str, Any]) -> Iterator[str]:
    if any(control.get(name) for name in _VALUES):
        yield f"sequence batching must not specify {_EITHER} for {_CORRELATION_ID}"
    if (data_type := control.get("data_type")) not in _CORRELATION_ID_TYPES:
        allowed = ", ".join(_CORRELATION_ID_TYPES)
        yield f"unexpected data type for control {_CORRELATION_ID}: {data_type}. Allowed data types are {allowed}"


@RULES.add("text-sequence-id", WARNING, advice="Use TYPE_UINT64, and numbers as ids.")
def text_sequence_id(model: ModelFolder) -> Iterator[str]:
    """With Triton 2.51, each request of such a Python model fails."""
    for tensor in _batching(model).get("control_input", ()):
        for control in tensor.get("control", ()):
            if model.is_python and control["kind"] == _CORRELATION_ID and control.get("data_type") == "TYPE_STRING":
                yield f"the control tensor '{tensor.get('name', '')}' shows the sequence id as TYPE_STRING"


@RULES.add(
    "invalid-sequence-batching",
    ERROR,
    advice="Use batch sizes up to max_batch_size, and a minimum_slot_utilization from 0 to 1.",
)
def invalid_sequence_batching(model: ModelFolder) -> Iterator[str]:
    """Triton rejects values out of range."""
    batching = _batching(model)
    yield from preferred_batch_sizes(model, batching.get("oldest") or {}, "sequence batching preferred batch size")
    utilization = float((batching.get("direct") or {}).get("minimum_slot_utilization", 0))
    if utilization < 0 or utilization > 1:  # Triton accepts NaN
        yield f"sequence batching minimum slot utilization must be in range (0.0, 1.0]: it is {utilization:g}"


@RULES.add(
    "invalid-initial-state",
    ERROR,
    advice="Write its name, the state's data_type, dims without -1, and zero_data or a data_file in initial_state/.",
)
def invalid_initial_state(model: ModelFolder) -> Iterator[str]:
    """Triton rejects an initial state that does not fit; 2.51 (release 24.10) often crashes."""
    states: Sequence[Mapping[str, Any]] = _batching(model).get("state", ())
    initialised = Counter(each.get("input_name", "") for each in states if each.get("initial_state"))
    for name, count in initialised.items():
        if count > 1:
            yield f"State input name '{name}' specified more than once: {count} times with an initial_state"
    for state in states:
        given: Sequence[Mapping[str, Any]] = state.get("initial_state", ())
        if len(given) > 1:
            yield (
                f"initial_state field for state input '{state.get('input_name')}' must contain exactly one or zero "
                f"element: it has {len(given)}"
            )
        elif given:
            for problem in (*_shape(state, given[0]), *_data(model, given[0])):
                yield f"initial_state of state '{state.get('input_name')}': {problem}"


def _shape(state: Mapping[str, Any], initial: Mapping[str, Any]) -> Iterator[str]:
    if not initial.get("name"):
        yield "Field 'name' must be set"
    if initial.get("data_type") != state.get("data_type"):
        yield f"{initial.get('data_type')} does not match the state data type {state.get('data_type')}"
    dims, of_state = list(initial.get("dims", ())), list(state.get("dims", ()))
    if any(dim < 0 for dim in dims):
        yield f"dims {dims} contains variable dimensions"
    elif len(dims) != len(of_state):
        yield f"Number of dimensions doesn't match the size of 'state' dimensions: {dims} and {of_state}"
    elif not fits(dims, of_state):
        yield f"dims {dims} doesn't match 'state' dim description {of_state}"


def _data(model: ModelFolder, initial: Mapping[str, Any]) -> Iterator[str]:
    if "data_file" in initial:
        yield from data_files.problems(model.path / "initial_state", initial["data_file"], initial)
    elif "zero_data" not in initial:
        yield "expects state_data set: zero_data or data_file"


def _batching(model: ModelFolder) -> Mapping[str, Any]:
    batching: Mapping[str, Any] = model.settings.get("sequence_batching") or {}
    return batching
