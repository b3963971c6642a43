# SPDX-License-Identifier: Apache-2.0
"""Model repositories that Triton loads, with the parts that a config may have: model name → text of its config.pbtxt.

The model `m` is the one to load. The others are the steps of its ensemble.
"""

from config_cases.case import MODEL, inert

RAGGED = """
    input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
START = 'control_input [ { name: "start" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ]'
CORRELATION = 'control_input [ { name: "id" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] } ]'

_SINGLE = {
    "plain": inert(),
    "named": inert('name: "m" max_batch_size: 4 platform: "custom" default_model_filename: "weights"'),
    "images": inert(
        "max_batch_size: 8",
        'input [ { name: "image" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ 32, 32, 3 ] } ]'
        'input [ { name: "text" data_type: TYPE_STRING dims: [ 1 ] optional: true } ]'
        'output [ { name: "scores" data_type: TYPE_FP16 dims: [ 10 ] }, { name: "id" data_type: TYPE_INT64 dims: 1 } ]',
    ),
    "reshaped": inert(
        "max_batch_size: 8",
        'input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]'
        'input [ { name: "z" data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ] reshape: { shape: [ 8, -1, 1, 6 ] } } ]'
        'output [ { name: "y" data_type: TYPE_FP32 dims: [ 4, 3 ] reshape: { shape: [ 12 ] } } ]',
    ),
    "dynamic": inert("max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 8 ] }"),
    "delayed": inert(
        "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 100 preserve_ordering: true"
        " default_queue_policy { max_queue_size: 8 default_timeout_microseconds: 5 allow_timeout_override: true } }"
    ),
    "priorities": inert(
        "max_batch_size: 8 dynamic_batching { priority_levels: 3 default_priority_level: 2"
        " priority_queue_policy { key: 1 value { timeout_action: DELAY default_timeout_microseconds: 9 } }"
        " priority_queue_policy { key: 3 value { max_queue_size: 2 } } }"
    ),
    "direct sequences": inert(
        f"max_batch_size: 4 sequence_batching {{ max_sequence_idle_microseconds: 5000000 {START} {CORRELATION}"
        " direct { max_queue_delay_microseconds: 7 minimum_slot_utilization: 0.5 } }"
    ),
    "oldest sequences": inert(
        "max_batch_size: 4 sequence_batching { oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2, 4 ] }"
        ' control_input [ { name: "end" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },'
        ' { name: "ready" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] } ] }'
    ),
    "state": inert(
        "max_batch_size: 4 sequence_batching { oldest { max_candidate_sequences: 4 }"
        ' state [ { input_name: "state_in" output_name: "state_out" data_type: TYPE_FP32 dims: [ 2 ]'
        ' initial_state { name: "zeros" data_type: TYPE_FP32 dims: [ 2 ] zero_data: true } } ] }'
    ),
    "iterative": inert(
        f"max_batch_size: 4 sequence_batching {{ iterative_sequence: true {START} }}"
        " model_transaction_policy { decoupled: true }"
    ),
    "instances": inert(
        'instance_group [ { name: "a" kind: KIND_CPU count: 2 }, { kind: KIND_MODEL count: 1 }, { count: 1 } ]'
    ),
    "limited": inert(
        "instance_group [ { kind: KIND_CPU count: 1 rate_limiter { priority: 2"
        ' resources [ { name: "memory" count: 2 }, { name: "slots" global: true count: 1 } ] } } ]'
    ),
    "latest": inert("version_policy { latest { num_versions: 1 } }"),
    "specific": inert("version_policy { specific { versions: [ 1 ] } }"),
    "all": inert("version_policy { all { } } response_cache { enable: true }"),
    "ragged": inert(
        "max_batch_size: 8 dynamic_batching { }"
        ' batch_input [ { kind: BATCH_ELEMENT_COUNT target_name: "count" data_type: TYPE_FP32 source_input: "x" },'
        ' { kind: BATCH_ITEM_SHAPE target_name: "shape" data_type: TYPE_INT32 source_input: "x" } ]'
        ' batch_output [ { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "y" source_input: "x" } ]',
        RAGGED,
    ),
    "warm": inert(
        'max_batch_size: 2 model_warmup [ { name: "zeros" batch_size: 1 count: 1'
        ' inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 2 ] zero_data: true } } },'
        ' { name: "random" batch_size: 2'
        ' inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 2 ] random_data: true } } } ]'
    ),
    "decoupled": inert("model_transaction_policy { decoupled: true }"),
    "tuned": inert(
        "optimization { graph { level: 1 } priority: PRIORITY_MAX input_pinned_memory { enable: false }"
        " cuda { graphs: true graph_spec { batch_size: 1 } } eager_batching: true gather_kernel_buffer_threshold: 0 }"
        ' parameters { key: "threads" value { string_value: "4" } } metric_tags { key: "a" value: "b" }'
        ' cc_model_filenames { key: "7.5" value: "weights" } model_operations { op_library_filename: "ops.so" }'
    ),
}


def tensor(name: str, datatype: str = "FP32", dims: str = "2") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ] }}'


def tensors(inputs: list[str], outputs: list[str]) -> str:
    return f"input [ {', '.join(inputs)} ] output [ {', '.join(outputs)} ]"


def step(model: str, maps: str, more: str = "model_version: -1") -> str:
    """A step of an ensemble. `maps`: `x=a y>b` feeds the ensemble's `a` to the input x, and writes y to `b`."""
    text = ""
    for each in maps.split():
        side, (inner, outer) = ("output", each.split(">")) if ">" in each else ("input", each.split("="))
        text += f' {side}_map {{ key: "{inner}" value: "{outer}" }}'
    return f'{{ model_name: "{model}" {text} {more} }}'


def ensemble(*steps: str, more: str = "") -> str:
    inner = tensors([tensor("in")], [tensor("out", dims="1")])
    return f'platform: "ensemble" {inner} ensemble_scheduling {{ step [ {", ".join(steps)} ] }} {more}'


def _model(inputs: list[str], outputs: list[str], more: str = "") -> str:
    return inert(more, tensors(inputs, outputs))


_ENSEMBLES = {
    "one step": {MODEL: ensemble(step("a", "x=in y>out")), "a": inert()},
    "chain": {
        MODEL: ensemble(step("a", "x=in y>between"), step("b", "x=between y>out")),
        "a": _model([tensor("x")], [tensor("y", "INT32", "-1")]),
        "b": _model([tensor("x", "INT32", "4")], [tensor("y", dims="1")]),
    },
    "batched chain": {
        MODEL: ensemble(
            step("a", "x=in y>between"), step("b", "x=between y>out", "model_version: 1"), more="max_batch_size: 4"
        ),
        "a": _model([tensor("x")], [tensor("y", "STRING", "3")], "max_batch_size: 4"),
        "b": _model([tensor("x", "STRING", "3")], [tensor("y", dims="1")], "max_batch_size: 8 dynamic_batching { }"),
    },
    "diamond": {
        MODEL: ensemble(
            step("a", "x=in y>left z>right"),
            step("b", "x=left y>one"),
            step("b", "x=right y>two"),
            step("c", "one=one two=two y>out"),
        ),
        "a": _model([tensor("x")], [tensor("y"), tensor("z")]),
        "b": inert(),
        "c": _model([tensor("one", dims="1"), tensor("two", dims="-1")], [tensor("y", dims="1")]),
    },
    "nested": {
        MODEL: ensemble(step("inner", "in=in out>out")),
        "inner": ensemble(step("a", "x=in y>out")),
        "a": inert("instance_group { count: 2 kind: KIND_CPU }"),
    },
    "decoupled chain": {
        MODEL: ensemble(step("a", "x=in y>between"), step("b", "x=between y>out")),
        "a": inert("model_transaction_policy { decoupled: true }"),
        "b": _model([tensor("x", dims="1")], [tensor("y", dims="1")]),
    },
}

VALID: dict[str, dict[str, str]] = {**{name: {MODEL: config} for name, config in _SINGLE.items()}, **_ENSEMBLES}
