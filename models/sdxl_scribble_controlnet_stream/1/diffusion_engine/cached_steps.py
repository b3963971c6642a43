# SPDX-License-Identifier: Apache-2.0
"""Which steps of a request are cached: they need no pass. Imports no torch.

The request's parameters alone decide, never its numbers. So other requests, which change the rounding, cannot change
the choice, nothing waits for the GPU, and the number of passes is known before the first.
"""

from collections.abc import Collection

from diffusion_engine.request_state import RequestState

# The part of the steps that `cache: 1` caches, after the first ones.
MOST_CACHED = 0.8
# The first part of the steps is not cached, because predictions change most in them.
WARM_UP = 0.25
# Forecasts need this many predictions since the last change of the networks' inputs.
MIN_PREDICTIONS = 2


def cached_steps(state: RequestState, prompt_changes: Collection[int] = ()) -> frozenset[int]:
    """The indices of the cached steps: evenly distributed, and never the last.

    Args:
        prompt_changes: the steps that have other prompts than the step before.
    """
    cached, num_predictions, due = set(), 0, 0.0
    for step in range(state.num_steps - 1):
        if step > 0 and (step in prompt_changes or state.is_controlled(step) != state.is_controlled(step - 1)):
            num_predictions = 0
        if num_predictions >= MIN_PREDICTIONS and step >= int(WARM_UP * state.num_steps):
            due += MOST_CACHED * state.request.cache
        if due > 1 - 1e-6:
            due -= 1
            cached.add(step)
        else:
            num_predictions += 1
    return frozenset(cached)
