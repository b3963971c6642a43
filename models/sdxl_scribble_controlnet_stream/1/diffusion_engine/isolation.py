# SPDX-License-Identifier: Apache-2.0
"""One request's failure is its own. Besides this only the engine catches everything, to try a failed pass by rows."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from diffusion_engine.request import RequestError

logger = logging.getLogger(__name__)

T = TypeVar("T")


def attempt(work: Callable[[], T]) -> T | RequestError:
    """Do something for one request. What goes wrong comes back as what that request is told."""
    try:
        return work()
    except RequestError as error:
        return error
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        detail = "there is no memory left for this picture; try again soon, or a smaller size"
        return RequestError("out_of_memory", detail, retry_after_s=5)
    except Exception:
        logger.exception("a request failed")
        return RequestError("generation_failed", "the picture could not be made; the server's log says why")
