# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for the sequence batcher."""

from config_cases.case import Case, inert

_START, _END, _ID = (f"kind: CONTROL_SEQUENCE_{each} " for each in ("START", "END", "CORRID"))
_VALUES = "int32_false_true: [ 0, 1 ] "
_CRASHES = "Triton 2.51 often crashes instead of rejecting the model"
_STATE = 'input_name: "s" output_name: "t" data_type: TYPE_INT32'
_INITIAL = 'name: "i" data_type: TYPE_INT32'


def _tensor(name: str, *controls: str) -> str:
    return f'control_input {{ name: "{name}" {" ".join(f"control {{ {each} }}" for each in controls)} }} '


def _sequence(name: str, settings: str, code: str | None = None, words: str = "") -> Case:
    return Case(name, inert(f"max_batch_size: 8 sequence_batching {{ {settings} }}"), code, words)


def _control(name: str, controls: str, words: str = "") -> Case:
    return _sequence(name, controls, "invalid-control" if words else None, words)


def _strategy(name: str, settings: str, words: str = "") -> Case:
    return _sequence(name, settings, "invalid-sequence-batching" if words else None, words)


def _state(
    name: str, initial: str, words: str = "", *, state: str = f"{_STATE} dims: 2", file: bytes | None = None
) -> Case:
    """A model with the state `s` and an initial state."""
    config = inert(f"max_batch_size: 8 sequence_batching {{ state {{ {state} {initial} }} }}")
    files = {"m/1/weights": "", **({} if file is None else {"m/initial_state/f": file})}
    code = "invalid-initial-state" if words else None
    return Case(name, config, code, words, files, _CRASHES if words else "")


def _initial(settings: str) -> str:
    return f"initial_state {{ {settings} }}"


CASES = [
    _control("control without a name", "control_input { }", "sequence batching control tensor must have a name"),
    _control("tensor without controls", _tensor("c")),
    _control("start", _tensor("c", _START + _VALUES)),
    _control("start without values", _tensor("c", _START), "must specify either 'int32_false_true'"),
    _control("start of two types", _tensor("c", _START + _VALUES + "fp32_false_true: [ 0, 1 ]"), "more than one from"),
    _control("start with one value", _tensor("c", _START + "fp32_false_true: 0"), "exactly 2 entries"),
    _control("start with three values", _tensor("c", _START + "bool_false_true: [ false, true, true ]"), "not 3"),
    _control("two tensors for start", _tensor("c", _START + _VALUES) + _tensor("d", _START + _VALUES), "multiple CONT"),
    _control("start twice", _tensor("c", _START + _VALUES, _START + _VALUES), "multiple CONTROL_SEQUENCE_START"),
    _control("a tensor twice", _tensor("c", _START + _VALUES) + _tensor("c", _END + _VALUES), "control tensor 'c' is"),
    _control("two kinds in a tensor", _tensor("c", _START + _VALUES, _END + _VALUES)),
    _control("a control with an input's name", _tensor("x", _START + "fp32_false_true: [ 0, 1 ]")),
    _control("kinds of no name", _tensor("c", "kind: 7", "kind: 7")),
    _control("correlation id", _tensor("c", _ID + "data_type: TYPE_STRING")),
    _control("correlation id FP32", _tensor("c", _ID + "data_type: TYPE_FP32"), "CONTROL_SEQUENCE_CORRID: TYPE_FP32"),
    _control("correlation id without type", _tensor("c", _ID), "Allowed data types are TYPE_UINT64"),
    _control("correlation id with values", _tensor("c", f"{_ID} data_type: TYPE_UINT64 {_VALUES}"), "must not specify"),
    _strategy("oldest 0", "oldest { preferred_batch_size: 0 }", "preferred batch size must be positive: 0"),
    _strategy("oldest 9", "oldest { preferred_batch_size: 9 }", "batch size must be <= max batch size: 9"),
    _strategy("oldest 8", "oldest { preferred_batch_size: 8 max_candidate_sequences: 0 }"),
    _strategy("utilization 2", "direct { minimum_slot_utilization: 2 }", "in range (0.0, 1.0]: it is 2"),
    _strategy("utilization -1", "direct { minimum_slot_utilization: -1 }", "it is -1"),
    _strategy("utilization 1", "direct { minimum_slot_utilization: 1 }"),
    _strategy("utilization nan", "direct { minimum_slot_utilization: nan }"),
    _strategy("iterative", "iterative_sequence: true max_sequence_idle_microseconds: 0"),
    _state("state", _initial(f"{_INITIAL} dims: 2 zero_data: true")),
    _state("state alone", "", state=""),
    _state("two initial states", _initial(f"{_INITIAL} dims: 2 zero_data: true") * 2, "exactly one or zero element"),
    _state("initial state without a name", _initial("data_type: TYPE_INT32 dims: 2 zero_data: true"), "Field 'name'"),
    _state(
        "initial FP32", _initial('name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true'), "not match the state da"
    ),
    _state("initial rank", _initial(f"{_INITIAL} dims: [ 2, 1 ] zero_data: true"), "Number of dimensions"),
    _state("initial dims", _initial(f"{_INITIAL} dims: 3 zero_data: true"), "[3] doesn't match 'state' dim"),
    _state("initial free dim", _initial(f"{_INITIAL} dims: -1 zero_data: true"), "contains variable dimensions"),
    _state("fixed dims", _initial(f"{_INITIAL} dims: 3 zero_data: true"), state=f"{_STATE} dims: -1"),
    _state("initial state without data", _initial(f"{_INITIAL} dims: 2"), "state_data set"),
    _state("initial file", _initial(f'{_INITIAL} dims: 2 data_file: "f"'), file=b"12345678"),
    _state("initial file too short", _initial(f'{_INITIAL} dims: 2 data_file: "f"'), "expects 8 bytes", file=b"1234"),
    _state("initial file missing", _initial(f'{_INITIAL} dims: 2 data_file: "f"'), "failed to open text file for read"),
    Case(
        "a state twice",
        inert(
            "sequence_batching {"
            + 2 * f"state {{ {_STATE} dims: 2 {_initial(_INITIAL + ' dims: 2 zero_data: true')} }}"
            + "}"
        ),
        "invalid-initial-state",
        "State input name 's' specified more than once",
        not_in_triton=_CRASHES,
    ),
]
