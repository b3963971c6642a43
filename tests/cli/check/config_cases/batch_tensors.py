# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for `batch_input` and `batch_output`."""

from config_cases.case import TENSORS, Case, inert, python

KINDS = (
    "BATCH_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
    "BATCH_ITEM_SHAPE",
    "BATCH_ITEM_SHAPE_FLATTEN",
)
SOURCE = 'source_input: "x"'
INT32 = "data_type: TYPE_INT32"


def batch_input(fields: str) -> str:
    return inert(f'max_batch_size: 8 batch_input {{ target_name: "size" {fields} }}')


def batch_output(fields: str) -> str:
    return inert(f"max_batch_size: 8 batch_output {{ kind: BATCH_SCATTER_WITH_INPUT_SHAPE {fields} }}")


def invalid(name: str, config: str, words: str) -> Case:
    return Case(name, config, "invalid-batch-tensor", words)


CASES = [
    *(Case(kind, batch_input(f"kind: {kind} {INT32} {SOURCE}")) for kind in KINDS),
    Case("a batch input of FP32, without kind", batch_input(f"data_type: TYPE_FP32 {SOURCE}")),
    invalid(
        "a batch input of INT64", batch_input(f"data_type: TYPE_INT64 {SOURCE}"), "must be TYPE_INT32 or TYPE_FP32"
    ),
    invalid("a batch input without datatype", batch_input(SOURCE), "has TYPE_INVALID"),
    invalid("a batch input without source", batch_input(INT32), "expects 1 source input, got 0"),
    invalid("a batch input of two sources", batch_input(f"{INT32} {SOURCE} {SOURCE}"), "expects 1 source input, got 2"),
    invalid(
        "a batch input of an unknown source",
        batch_input(f'{INT32} source_input: "X"'),
        "unknown source input name 'X'",
    ),
    invalid("a batch input of an unknown kind", batch_input(f"kind: 99 {INT32} {SOURCE}"), "unknown batch input kind"),
    Case("a batch input without target", inert(f"batch_input {{ {INT32} {SOURCE} }}")),
    Case("a batch output", batch_output(f'target_name: "y" {SOURCE}')),
    Case("a batch output without target", batch_output(SOURCE)),
    invalid("a batch output without source", batch_output('target_name: "y"'), "expects 1 source input, got 0"),
    invalid(
        "a batch output of an unknown source",
        batch_output('target_name: "y" source_input: "y"'),
        "unknown source input name 'y'",
    ),
    invalid(
        "a batch output of an unknown target", batch_output(f'target_name: "x" {SOURCE}'), "target output name 'x'"
    ),
    invalid(
        "a batch output with one target twice",
        batch_output(f'target_name: [ "y", "y" ] {SOURCE}'),
        "target output name 'y' can only be specified once",
    ),
    Case(
        "a batch input of a model whose backend adds inputs",
        f'backend: "onnxruntime" {TENSORS[TENSORS.index("output") :]} batch_input {{ {INT32} source_input: "z" }}',
        not_in_triton="no onnxruntime",
    ),
    Case(
        "a batch input of a Python model that adds inputs",
        python(f'batch_input {{ {INT32} source_input: "added" }}'),
        files={
            "m/1/model.py": """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "added", "data_type": "TYPE_FP32", "dims": [2]})
        return config

    def execute(self, requests):
        return []
"""
        },
    ),
]
