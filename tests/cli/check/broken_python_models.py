# SPDX-License-Identifier: Apache-2.0
"""For each rule for a Python model: broken ones with a part of the finding, and similar ones that are fine."""

from model_folders import BATCHED, TENSORS, UNBATCHED, Folder, method, model_py

# rule code → broken folders with a part of the finding, folders that are fine
CASES: dict[str, tuple[list[tuple[Folder, str]], list[Folder]]] = {
    "unreadable-python": (
        [(Folder(model_py="no Python at all"), "1/model.py: line 1: invalid syntax")],
        [Folder(), Folder(model_py="")],
    ),
    "unreadable-module": (
        [(Folder(f'{BATCHED} default_model_filename: "a.py"', "no Python at all"), "1/model.py: line 1: invalid")],
        [Folder(model_py="no Python at all"), Folder(BATCHED.replace("python", "onnxruntime"), "no Python at all")],
    ),
    "no-model-class": (
        [(Folder(model_py="class Model:\n    pass"), "no attribute 'TritonPythonModel'"), (Folder(TENSORS, ""), "")],
        [
            Folder(),
            Folder(model_py="from engine import Model as TritonPythonModel"),
            Folder(model_py="from engine import *"),
            Folder(model_py="try:\n    TritonPythonModel = A\nfinally:\n    pass"),
            Folder(model_py="globals().update(models)"),
            Folder(BATCHED.replace("python", "onnxruntime"), ""),
        ],
    ),
    "no-execute": (
        [
            (
                Folder(model_py="class TritonPythonModel:\n    pass"),
                "1/model.py: line 1: TritonPythonModel has no method",
            ),
            (Folder(model_py="\nclass TritonPythonModel:\n    def run(self, requests): ..."), "line 2"),
        ],
        [
            Folder(),
            Folder(model_py="class TritonPythonModel(Base):\n    pass"),
            Folder(model_py="class TritonPythonModel:\n    execute = run"),
            Folder(model_py="class TritonPythonModel:\n    pass\nTritonPythonModel.execute = run"),
            Folder(model_py="@with_execution\nclass TritonPythonModel:\n    pass"),
        ],
    ),
    "wrong-signature": (
        [
            (
                Folder(model_py=method("execute(self)")),
                "line 3: `execute` must accept Triton's call: execute(self, requests)",
            ),
            (Folder(model_py=method("__init__(self, args)")), "__init__(self)"),
            (Folder(model_py=method("initialize(self, args, *, device)")), "initialize(self, args)"),
            (Folder(model_py=method("auto_complete_config(self, config)")), "TritonPythonModel.auto_complete_config("),
            (Folder(model_py=method("auto_complete_config(a, b)", "@staticmethod")), "auto_complete_config"),
        ],
        [
            Folder(),
            Folder(model_py=method("execute(self, *requests)")),
            Folder(model_py=method("__init__(self, args=None)")),
            Folder(model_py=method("initialize(self, args, *, device=None)")),
            Folder(model_py=method("auto_complete_config(config)")),
            Folder(model_py=method("auto_complete_config(config)", "@staticmethod")),
            Folder(model_py=method("auto_complete_config(cls, config)", "@classmethod")),
            Folder(model_py=method("execute(self)", "@batched")),
        ],
    ),
    "output-not-returned": (
        [(Folder(model_py=model_py('[pb_utils.Tensor("z", value)]')), "never mentions the output `y`")],
        [
            Folder(),
            Folder(model_py=model_py('[pb_utils.Tensor(name, value) for name in ("y",)]')),
            Folder(model_py=model_py("tensors(y=value)")),
            Folder(model_py="no Python at all"),  # no other rule applies to it
            Folder(BATCHED.replace("python", "onnxruntime"), "pass"),
        ],
    ),
    "output-undeclared": (
        [(Folder(model_py=model_py('[pb_utils.Tensor("y", value), pb_utils.Tensor("z", value)]')), "returns `z`")],
        [
            Folder(),
            # the input of a request to another model
            Folder(model_py=model_py("[]") + '\npb_utils.InferenceRequest(inputs=[pb_utils.Tensor("z", 1)])'),
        ],
    ),
    "output-dims": (
        [
            (
                Folder(model_py=model_py('[pb_utils.Tensor("y", np.array([1.0]))]')),
                "`y` is returned with the shape [1], but the config declares [-1, 1]",
            ),
            (Folder(model_py=model_py('[pb_utils.Tensor("y", np.zeros((4, 3)))]')), "the shape [4, 3]"),
            (Folder(UNBATCHED, model_py('[pb_utils.Tensor("y", np.full((n, 1), 0))]')), "the shape ['?', 1]"),
            (Folder(UNBATCHED, model_py('[pb_utils.Tensor("y", np.asarray([[1]]))]')), "the shape [1, 1]"),
        ],
        [
            Folder(),
            Folder(model_py=model_py('[pb_utils.Tensor("y", np.array([[1.0], [2.0]]))]')),
            Folder(model_py=model_py('[pb_utils.Tensor("y", np.array([rows]))]')),  # rows may be lists
            Folder(UNBATCHED, model_py('[pb_utils.Tensor("y", np.zeros(1))]')),
            Folder(UNBATCHED, model_py('[pb_utils.Tensor("y", np.zeros(n))]')),
        ],
    ),
}
