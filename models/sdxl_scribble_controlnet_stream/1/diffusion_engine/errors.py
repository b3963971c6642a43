# SPDX-License-Identifier: Apache-2.0
"""The error of one request. A failure affects only its own request. Imports no torch."""

import json
import logging
from collections.abc import Callable
from typing import Self, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

# In the errors of CUDA, cuBLAS and cuDNN, which are not torch.OutOfMemoryError.
_OUT_OF_MEMORY = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "unable to find an engine to execute")


class RequestError(Exception):
    """The reason why one request gets no picture.

    Args:
        code: stable, for programs.
        detail: for people: the reason, and what to do about it.
        field: the name of the invalid input.
        retry_after_s: when to retry, in seconds.
    """

    def __init__(self, code: str, detail: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s

    def in_row(self, index: int, num_rows: int) -> Self:
        """The same error; with several rows, its detail names the row."""
        if num_rows == 1:
            return self
        detail = f"row {index} of 0 to {num_rows - 1}: {self.detail}"
        return type(self)(self.code, detail, field=self.field, retry_after_s=self.retry_after_s)

    def to_json(self) -> str:
        """The text of the error that Triton clients receive."""
        body = {
            "code": self.code,
            "detail": self.detail,
            "field": self.field,
            "retry_after_s": self.retry_after_s,
        }
        return json.dumps({name: value for name, value in body.items() if value is not None})


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU's memory was too small for the work."""
    import torch  # not at the top: the processes that decode pictures import this module without torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )


def attempt(work: Callable[[], T]) -> T | RequestError:
    """Run work for one request. Returns its result, or any exception as the `RequestError` that the client receives.

    Only this function and the engine catch every exception: the engine retries a failed pass request by request.
    """
    try:
        return work()
    except RequestError as error:
        return error
    except Exception as error:
        if not is_out_of_memory(error):
            logger.exception("a request failed")
            return RequestError("generation_failed", "The picture could not be made. The server's log has the reason.")
    import torch

    torch.cuda.empty_cache()  # not in the handler: the exception keeps the tensors of the failed work
    detail = "The GPU has no memory left for this picture. Retry soon, or send a smaller `width` and `height`."
    return RequestError("out_of_memory", detail, retry_after_s=5)
