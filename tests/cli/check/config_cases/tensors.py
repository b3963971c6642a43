# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for inputs and outputs."""

from config_cases.case import Case, inert

BATCHED = "max_batch_size: 8"
NO_TENSORRT = "the embedded Triton has no TensorRT"
NO_PYTORCH = "the embedded Triton has no PyTorch backend"
X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]'
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]'
TRITON_PYTHON_MODEL = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [1]})
        config.set_max_batch_size(4)
        return config

    def execute(self, requests):
        return []
"""
AUTO_COMPLETE = {"m/1/model.py": TRITON_PYTHON_MODEL}


def inputs(tensors: str, more: str = "") -> str:
    return inert(more, f"input [ {tensors} ] {Y}")


def outputs(tensors: str, more: str = "") -> str:
    return inert(more, f"{X} output [ {tensors} ]")


def dims(text: str, more: str = "") -> str:
    """A model with an input of these dims."""
    return inputs(f'{{ name: "x" data_type: TYPE_FP32 {text} }}', more)


COMPLETENESS = [
    Case("complete", inert()),
    Case("a model without tensors", inert(tensors="")),
    Case("a model without inputs", inert(tensors=Y)),
    Case("a model without outputs", inert(tensors=X)),
    Case(
        "an input without name",
        inputs("{ data_type: TYPE_FP32 dims: 1 }"),
        "incomplete-tensor",
        "model input must specify 'name'",
    ),
    Case(
        "an input without datatype",
        inputs('{ name: "x" dims: 1 }'),
        "incomplete-tensor",
        "model input 'x' must specify 'data_type'",
    ),
    Case(
        "an input of TYPE_INVALID",
        inputs('{ name: "x" data_type: TYPE_INVALID dims: 1 }'),
        "incomplete-tensor",
        "'data_type'",
    ),
    Case(
        "an input without dims",
        inputs('{ name: "x" data_type: TYPE_FP32 }'),
        "incomplete-tensor",
        "model input 'x' must specify 'dims'",
    ),
    Case(
        "an output without name",
        outputs("{ data_type: TYPE_FP32 dims: 1 }"),
        "incomplete-tensor",
        "model output must specify 'name'",
    ),
    Case(
        "an output without dims",
        outputs('{ name: "y" data_type: TYPE_FP32 }'),
        "incomplete-tensor",
        "model output 'y' must specify 'dims'",
    ),
    Case("a Python model that nothing completes", f'backend: "python" input {{ name: "x" }} {Y}', "incomplete-tensor"),
    Case(
        "a Python model that completes its tensors",
        'backend: "python" input { name: "x" } output { name: "y" dims: 1 reshape { } }',
        files=AUTO_COMPLETE,
    ),
    *(
        Case(f"{backend} completes tensors", f'backend: "{backend}" input {{ name: "x" }}', not_in_triton=NO_TENSORRT)
        for backend in ("tensorrt", "dali")
    ),
    Case("onnxruntime completes sides", f'backend: "onnxruntime" {X}', not_in_triton="no onnxruntime"),
    *(
        Case(
            f"{backend} completes no tensors",
            f'backend: "{backend}" {X} output {{ name: "y" }}',
            "incomplete-tensor",
            not_in_triton=f"the embedded Triton has no {backend} backend",
        )
        for backend in ("onnxruntime", "openvino")
    ),
    Case(
        "PyTorch completes nothing",
        f'backend: "pytorch" {X}',
        "incomplete-tensor",
        "model configuration must contain at least one output",
        not_in_triton=NO_PYTORCH,
    ),
]
DIMS = [
    Case("a dim of 0", dims("dims: [ 2, 0 ]"), "invalid-dims", "dimension must be integer >= 1"),
    Case("a dim of -2", dims("dims: -2"), "invalid-dims", "not -2"),
    Case("an output's dim of 0", outputs('{ name: "y" data_type: TYPE_FP32 dims: 0 }'), "invalid-dims", "output 'y'"),
    Case("free dims", dims("dims: [ -1, 3, -1 ]")),
    Case("NHWC with 2 dims", dims("dims: [ 2, 2 ] format: FORMAT_NHWC"), "invalid-dims", "NHWC/NCHW require 3 dims"),
    Case("NCHW with 4 dims", dims("dims: [ 2, 2, 2, 2 ] format: FORMAT_NCHW", BATCHED), "invalid-dims", "has 4"),
    Case("NHWC with 3 dims", dims("dims: [ -1, -1, 3 ] format: FORMAT_NHWC")),
    Case(
        "NCHW with dims that TensorRT completes",
        f'backend: "tensorrt" input {{ name: "x" format: FORMAT_NCHW }} {Y}',
        not_in_triton=NO_TENSORRT,
    ),
    Case("no format", dims("dims: 2 format: FORMAT_NONE")),
]
RESHAPE = [
    Case("reshape", dims("dims: [ 2, 3 ] reshape { shape: 6 }")),
    Case("reshape with free dims", dims("dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 1, 6 ] }")),
    Case("empty reshape of a batch", dims("dims: [ 1, 1 ] reshape { }", BATCHED)),
    Case("empty reshape without a batch", dims("dims: 1 reshape { }"), "invalid-reshape", "cannot have empty reshape"),
    Case("empty reshape of 2 values", dims("dims: 2 reshape { }", BATCHED), "invalid-reshape", "different size"),
    Case("empty reshape of a free dim", dims("dims: -1 reshape { }", BATCHED), "invalid-reshape", "different size"),
    Case("reshape to 0", dims("dims: 1 reshape { shape: 0 }"), "invalid-reshape", "must be integer >= 1"),
    Case("reshape to -2", dims("dims: 1 reshape { shape: -2 }", BATCHED), "invalid-reshape", "not -2"),
    Case("reshape to another size", dims("dims: [ 2, 3 ] reshape { shape: 5 }"), "invalid-reshape", "[2, 3] and [5]"),
    Case("reshape of a free dim to a size", dims("dims: -1 reshape { shape: 4 }"), "invalid-reshape", "different size"),
    Case("reshape of a size to a free dim", dims("dims: 4 reshape { shape: -1 }"), "invalid-reshape", "different size"),
    Case(
        "reshape over a free dim",
        dims("dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, 6, -1 ] }"),
        "invalid-reshape",
        "different size",
    ),
    Case(
        "reshape of two free dims to one",
        dims("dims: [ -1, -1 ] reshape { shape: -1 }"),
        "invalid-reshape",
        "different number of variable-size dimensions",
    ),
    Case(
        "reshape of an output",
        outputs('{ name: "y" data_type: TYPE_FP32 dims: 2 reshape { shape: 3 } }'),
        "invalid-reshape",
        "model output 'y'",
    ),
    Case(
        "reshape of too many values",
        dims("dims: [ 4294967296, 4294967296 ] reshape { shape: [ 4294967296, 4294967296 ] }"),
        "invalid-reshape",
        "too many values",
        not_in_triton="2.51 calculates with overflow; newer versions refuse it",
    ),
]
KINDS = [
    Case("a shape tensor", dims("dims: 1 is_shape_tensor: true"), "tensorrt-only", "shape tensors are only supported"),
    Case(
        "an output that is a shape tensor",
        outputs('{ name: "y" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true }'),
        "tensorrt-only",
        "model output 'y'",
    ),
    Case("a shape tensor with the platform", dims("dims: 1 is_shape_tensor: true", 'platform: "tensorrt_plan"')),
    Case("a non-linear format", dims("dims: 1 is_non_linear_format_io: true"), "tensorrt-only", "Non-linear IO format"),
    Case(
        "a non-linear format with 2 dims",
        dims("dims: [ 2, 2 ] is_non_linear_format_io: true", 'platform: "tensorrt_plan"'),
        "tensorrt-only",
        "requires 3 dims",
    ),
    Case(
        "a non-linear format with 3 dims",
        dims("dims: [ 2, 2, 2 ] is_non_linear_format_io: true", 'platform: "tensorrt_plan"'),
    ),
    Case("ragged, without a batch", dims("dims: -1 allow_ragged_batch: true")),
    Case("ragged, with a batch", dims("dims: -1 allow_ragged_batch: true", f"{BATCHED} dynamic_batching {{ }}")),
    Case("optional", dims("dims: -1 optional: true")),
    Case("an unknown datatype", inputs('{ name: "x" data_type: 99 dims: 2 }')),
    *(
        Case(f"PyTorch: {name}", f'backend: "pytorch" {tensors}', "unsupported-by-backend", not_in_triton=NO_PYTORCH)
        for name, tensors in {
            "optional": f'input {{ name: "x" data_type: TYPE_FP32 dims: 2 optional: true }} {Y}',
            "UINT32": f'{X} output {{ name: "y" data_type: TYPE_UINT32 dims: 2 }}',
            "string with 2 dims": f'input {{ name: "x" data_type: TYPE_STRING dims: [ 2, 2 ] }} {Y}',
            "batched string": f'input {{ name: "x" data_type: TYPE_STRING dims: 2 }} {Y} max_batch_size: 2',
        }.items()
    ),
    *(
        Case(
            f"{backend}: optional",
            f'backend: "{backend}" input {{ name: "x" data_type: TYPE_FP32 dims: 2 optional: true }} {Y}',
            "unsupported-by-backend" if backend != "onnxruntime" else None,
            not_in_triton=f"the embedded Triton has no {backend} backend",
        )
        for backend in ("openvino", "tensorrt", "onnxruntime")
    ),
    Case(
        "PyTorch in Python: optional",
        'backend: "pytorch" runtime: "model.py" input { name: "x" data_type: TYPE_UINT32 dims: 2 optional: true }',
        not_in_triton=NO_PYTORCH,
    ),
    Case(
        "PyTorch: strings",
        f'backend: "pytorch" input {{ name: "x" data_type: TYPE_STRING dims: 2 }} {Y}',
        not_in_triton=NO_PYTORCH,
    ),
]
NAMES = [
    Case("one name on both sides", outputs('{ name: "x" data_type: TYPE_FP32 dims: 1 }')),
    Case("one name for two outputs", inert(tensors=X + Y + Y)),
    Case(
        "one name for two inputs",
        inert(tensors=X + X + Y),
        "duplicate-input",
        "expected 2 inputs but got 1 inputs",
        not_in_triton="it loads the model, and every request fails",
    ),
    Case(
        "one name for two inputs, one of them optional", inert(tensors=X + X.replace("[ 2 ]", "2 optional: true") + Y)
    ),
]


def labels(filename: str) -> str:
    return outputs(f'{{ name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "{filename}" }}')


LABELS = [
    Case("no label file", labels("labels.txt"), "no-label-file", "failed to open text file for read labels.txt"),
    Case("a label file", labels("labels.txt"), files={"m/labels.txt": "a\nb\n"}),
    Case("a label file in a folder", labels("texts/labels.txt"), files={"m/1/x": "", "m/texts/labels.txt": "a"}),
    Case("a label file in the version", labels("labels.txt"), "no-label-file", files={"m/1/labels.txt": "a"}),
    Case("a label file with an absolute path", labels("/labels.txt"), files={"m/labels.txt": "a"}),
    Case("a label file outside", labels("../n/labels.txt"), files={"n/labels.txt": "a"}),
    Case(
        "a label file that is a folder",
        labels("labels"),
        "no-label-file",
        files={"m/1/x": "", "m/labels/x": ""},
        not_in_triton="it crashes",
    ),
]
CASES = [*COMPLETENESS, *DIMS, *RESHAPE, *KINDS, *NAMES, *LABELS]
