# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for the folder of a model: its backend, name, versions and files."""

from config_cases.case import PYTHON_MODEL, TENSORS, Case, inert, python

CONFIG = "m/config.pbtxt"
NO_BACKEND = "the embedded Triton has only the Python backend"


def derived(name: str, more: str, filename: str) -> Case:
    """A config without `backend`, and a file from which Triton derives it."""
    return Case(name, f"{TENSORS} {more}", files={f"m/1/{filename}": "x"}, not_in_triton=NO_BACKEND)


CASES = [
    Case("no backend", TENSORS, "invalid-backend", "Could not determine backend"),
    Case("no backend, but model.py", TENSORS, files={"m/1/model.py": PYTHON_MODEL}),
    *(
        derived(f"no backend, but {filename}", "", filename)
        for filename in ("model.onnx", "model.plan", "model.pt", "model.xml", "model.graphdef", "model.savedmodel/x")
    ),
    derived("no backend, but the platform of one", 'platform: "pytorch_libtorch"', "weights"),
    derived("no backend, but a platform that Triton 2.51 does not know", 'platform: "torch_aoti"', "model.pt2"),
    derived("no backend, but its file", 'default_model_filename: "model.plan"', "weights"),
    Case(
        "no backend, and the file of none",
        f'{TENSORS} default_model_filename: "a.bin"',
        "invalid-backend",
        "unexpected platform type ''",
    ),
    Case(
        "no backend, and a file in place of a folder", TENSORS, "invalid-backend", files={"m/1/model.savedmodel": "x"}
    ),
    Case(
        "an unknown platform with TensorFlow's file",
        f'{TENSORS} platform: "other" default_model_filename: "model.savedmodel"',
        "invalid-backend",
        "unexpected platform type 'other'",
    ),
    Case("an unknown platform", f'{TENSORS} platform: "onnxruntime_onx"', "invalid-backend", "mean `onnxruntime_onnx`"),
    Case("a backend as platform", f'{TENSORS} platform: "python"', "invalid-backend", 'write `backend: "python"`'),
    Case("a backend with any platform", inert('platform: "tensorrt_plan"')),
    Case("an ensemble's platform", inert('platform: "ensemble"'), "invalid-ensemble"),
    *(
        Case(
            f"{backend} with the platform {platform}",
            f'{TENSORS} backend: "{backend}" platform: "{platform}"',
            "invalid-backend",
            f"unexpected 'platform' and 'backend' pair, got: {platform}, {backend}",
        )
        for backend, platform in (
            ("onnxruntime", "tensorrt_plan"),
            ("tensorrt", "onnxruntime_onnx"),
            ("pytorch", "torchscript"),
            ("tensorflow", "tensorrt_plan"),
            ("tensorflow", ""),
        )
    ),
    Case("the folder's name", inert('name: "m"')),
    Case("another name", inert('name: "n"'), "name-mismatch", "directory name must equal model name"),
    Case("no version folder", inert(), "no-version", files={"m/docs/x": ""}),
    Case("a version folder 0", inert(), files={"m/0/x": ""}),
    Case("a version folder beside others", inert(), files={"m/3/x": "", "m/docs/x": ""}),
    Case(
        "a Python model without model.py",
        python(),
        "no-model-file",
        files={"m/1/x": ""},
        not_in_triton="it waits for ever, and loads no other model",
    ),
    Case(
        "a Python model with another file",
        python('default_model_filename: "a.py"'),
        files={"m/1/a.py": PYTHON_MODEL},
        not_in_triton="tried; it takes a second",
    ),
]
