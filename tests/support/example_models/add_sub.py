# SPDX-License-Identifier: Apache-2.0
"""Two tensors → their sum and their difference. Texts are numbers."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        a, b = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("INPUT0", "INPUT1"))
        if a.dtype == np.object_:
            a, b = a.astype(np.int64), b.astype(np.int64)
            results = [each.astype(str).astype(np.object_) for each in (a + b, a - b)]
        else:
            results = [a + b, a - b]
        outputs = zip(("OUTPUT0", "OUTPUT1"), results, strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*each) for each in outputs])
