# SPDX-License-Identifier: Apache-2.0
"""One case: a model repository, and what `fastapi-triton check` and Triton say about its model `m`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.loading_triton import INERT

TENSORS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
PYTHON_MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
MODEL = "m"


def inert(more: str = "", tensors: str = TENSORS) -> str:
    """The config of a model whose backend accepts everything."""
    return f'backend: "{INERT}" {tensors} {more}'


def python(more: str = "", tensors: str = TENSORS) -> str:
    """The config of a Python model. Loading one takes more than a second: use it only where the backend matters."""
    return f'backend: "python" {tensors} {more}'


@dataclass(frozen=True)
class Case:
    """A repository with the model `m`.

    Args:
        config: the text of `m/config.pbtxt`.
        code: the rule that finds an error. None: there is no error, and Triton loads the model.
        words: a part of the finding.
        files: more files, by their path in the repository. A Python model without a file gets `PYTHON_MODEL`.
        not_in_triton: why the embedded Triton cannot judge the case, for example because it needs a GPU or a newer
            version. Then only `check` is tested.
    """

    name: str
    config: str | bytes
    code: str | None = None
    words: str = ""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    not_in_triton: str = ""

    def write(self, repository: Path) -> None:
        """Write the repository. Every model gets a version folder unless its files have one."""
        files = {f"{MODEL}/config.pbtxt": self.config, **self.files}
        for model in {path.partition("/")[0] for path in files}:
            config = files.get(f"{model}/config.pbtxt", "")
            if not any(path.startswith(f"{model}/") and path.count("/") > 1 for path in files):
                (repository / model / "1").mkdir(parents=True)
                if "python" in str(config):
                    (repository / model / "1" / "model.py").write_text(PYTHON_MODEL)
        for path, content in files.items():
            target = repository / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
