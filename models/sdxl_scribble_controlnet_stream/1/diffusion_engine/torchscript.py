# SPDX-License-Identifier: Apache-2.0
"""Runs a network as TorchScript: the same layers and numbers, without Python between the layers.

Python takes half the time of a small pass, and parallel passes wait for its lock. TorchScript is deprecated in torch,
but no successor runs without Python and without a compiler on the same machine. If tracing fails, the network runs
untraced.
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

# The structure of the arguments, and the values of those that are not tensors.
Signature = tuple[TreeSpec, tuple[Any, ...]]
Run = Callable[..., Any]


class TensorPlaceholder:
    """Marks the position of a tensor among flattened arguments."""


class TracedNetwork:
    """Called like the network itself. The first call with arguments of a signature traces it.

    A trace works for any number of rows, and for latents whose sides can be halved `num_halvings` times. For others the
    network itself is called.

    Args:
        method: the method of the network that is called, such as `forward`.
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
        values = tuple(TensorPlaceholder if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
        run = self._traces.get((tree, values))
        if run is None:
            run = self._trace((tree, values), tensors)
        return run(*tensors)

    def _trace(self, signature: Signature, tensors: tuple[torch.Tensor, ...]) -> Run:
        with self._lock:  # a parallel pass may trace the same signature
            if signature not in self._traces:
                flat = FlatNetwork(self._network, self._method, signature).eval()
                self._traces[signature] = trace(flat, tensors)
            return self._traces[signature]


class FlatNetwork(nn.Module):
    """A network whose `forward` takes only tensors, as tracing requires."""

    def __init__(self, network: nn.Module, method: str, signature: Signature) -> None:
        super().__init__()
        self.network = network
        self._method = method
        self._tree, self._values = signature

    def forward(self, *tensors: torch.Tensor) -> Any:
        rest = iter(tensors)
        leaves = [next(rest) if value is TensorPlaceholder else value for value in self._values]
        arguments, options = tree_unflatten(leaves, self._tree)
        return getattr(self.network, self._method)(*arguments, **options)


def as_function(flat: FlatNetwork) -> Run:
    """A traced function has the weights as constants. A traced module takes twice as long: torch inspects the
    Python class of every layer first.
    """
    flat.requires_grad_(False)  # constants must not need gradients, and an engine computes none

    def run(*tensors: torch.Tensor) -> Any:
        return flat(*tensors)

    return run


def trace(flat: FlatNetwork, tensors: tuple[torch.Tensor, ...]) -> Run:
    """The network as TorchScript; the network itself if tracing fails or changes its outputs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the deprecation, and about branches that the trace makes constant
            if tensors[0].device.type == "cpu":
                # On CPUs, torch fuses no layers. Without specializations for that, it optimizes a trace once, in its
                # first call, and not again in its second.
                torch.jit.set_fusion_strategy([])
            script = torch.jit.trace(  # type: ignore[no-untyped-call]
                as_function(flat), tensors, check_trace=False, strict=False
            )
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError) as error:
        logger.warning("%s cannot be traced and runs untraced: %s", type(flat.network).__name__, error)
        return flat
    twice = tuple(torch.cat([tensor, tensor.flip(0)]) for tensor in tensors)
    expected, _ = tree_flatten(flat(*twice))
    found, _ = tree_flatten(script(*twice))
    if all(torch.allclose(*pair, rtol=1e-3, atol=1e-4, equal_nan=True) for pair in zip(found, expected, strict=True)):
        return script  # type: ignore[no-any-return]
    logger.warning("%s returns other numbers when traced, and runs untraced", type(flat.network).__name__)
    return flat
