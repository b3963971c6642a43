# SPDX-License-Identifier: Apache-2.0
"""A network without the Python between its layers, which is half of a small pass, and at which lanes take turns.

The same layers with the same numbers, run by TorchScript. torch calls TorchScript deprecated, and has no successor that
runs without Python and needs no compiler where it runs; without it, networks are run as they are.
"""

import logging
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

logger = logging.getLogger(__name__)

# Which arguments there are, and the values of those that are no tensors.
Signature = tuple[TreeSpec, tuple[Any, ...]]
Run = Callable[..., Any]


class Tensor:
    """Stands where a tensor was."""


class TracedNetwork:
    """Called as the network itself, and traced at the first call with arguments of a kind.

    A trace serves any number of rows, and any latents that the network can halve evenly; for others the network itself
    is called.

    Args:
        method: of the network, to call in place of its `forward`.
        num_halvings: how often the network halves the sides of its first argument.
    """

    def __init__(self, network: Any, *, method: str = "forward", num_halvings: int = 0) -> None:
        self._network = network
        self._method = method
        self._granularity = 2**num_halvings
        self._traces: dict[Signature, Run] = {}
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, latents: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if any(side % self._granularity for side in latents.shape[-2:]):
            return getattr(self._network, self._method)(latents, *arguments, **options)
        leaves, tree = tree_flatten(((latents, *arguments), options))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        values = tuple(Tensor if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
        run = self._traces.get((tree, values))
        if run is None:
            run = self._trace((tree, values), tensors)
        return run(*tensors)

    def _trace(self, signature: Signature, tensors: tuple[torch.Tensor, ...]) -> Run:
        with self._lock:  # another lane may be here for the same
            if signature not in self._traces:
                flat = Flat(self._network, self._method, signature).eval()
                self._traces[signature] = traced(flat, tensors)
            return self._traces[signature]


class Flat(nn.Module):
    """A network that takes tensors and nothing else, as tracing wants it."""

    def __init__(self, network: nn.Module, method: str, signature: Signature) -> None:
        super().__init__()
        self.network = network
        self._method = method
        self._tree, self._values = signature

    def forward(self, *tensors: torch.Tensor) -> Any:
        rest = iter(tensors)
        leaves = [next(rest) if value is Tensor else value for value in self._values]
        arguments, options = tree_unflatten(leaves, self._tree)
        return getattr(self.network, self._method)(*arguments, **options)


def traced(flat: Flat, tensors: tuple[torch.Tensor, ...]) -> Run:
    """The network as TorchScript, held against itself once; the network itself where that cannot be done."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript's age, and about checks that stay as they fell out
            script = torch.jit.trace(  # type: ignore[no-untyped-call]
                flat, tensors, check_trace=False, strict=False
            )
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError) as error:
        logger.warning("%s cannot be traced and is run as it is: %s", type(flat.network).__name__, error)
        return flat
    twice = tuple(torch.cat([tensor, tensor.flip(0)]) for tensor in tensors)
    expected, _ = tree_flatten(flat(*twice))
    found, _ = tree_flatten(script(*twice))
    if all(torch.allclose(*pair, rtol=1e-3, atol=1e-4, equal_nan=True) for pair in zip(found, expected, strict=True)):
        return script  # type: ignore[no-any-return]
    logger.warning("%s gives other numbers when traced, and is run as it is", type(flat.network).__name__)
    return flat
