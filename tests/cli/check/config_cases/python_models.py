# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for Python models. Each takes more than a second in Triton."""

from config_cases.case import PYTHON_MODEL, Case, python

CASES = [
    Case(
        "python: class assigned, other file broken",
        python(),
        files={
            "m/1/model.py": f"{PYTHON_MODEL.replace('TritonPythonModel', 'Model')}\nTritonPythonModel = Model\n",
            "m/1/unused.py": "def f(:\n",
        },
    ),
    Case(
        "python: imported file broken",
        python(),
        "unreadable-python",
        "cannot read 1/part.py: line 2: invalid syntax",
        files={"m/1/model.py": f"from part import *\n{PYTHON_MODEL}", "m/1/part.py": "\ndef f(:\n"},
    ),
    Case(
        "python: file without .py",
        python('default_model_filename: "model.txt"'),
        "no-model-file",
        "Model name must end with '.py'",
        files={"m/1/model.txt": PYTHON_MODEL},
    ),
    Case(
        "python: no class",
        python(),
        "no-model-class",
        "1/model.py: AttributeError: module has no attribute 'TritonPythonModel'",
        files={"m/1/model.py": PYTHON_MODEL.replace("TritonPythonModel", "Model")},
    ),
    Case(
        "python: signature of initialize",
        python(),
        "wrong-signature",
        "1/model.py: line 6: `initialize` must accept Triton's call: initialize(self, args)",
        files={"m/1/model.py": f"{PYTHON_MODEL}\n    def initialize(self):\n        pass\n"},
    ),
]
