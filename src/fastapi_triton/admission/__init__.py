# SPDX-License-Identifier: Apache-2.0
"""Which requests may go to a model now, which wait for it, and which are refused.

It must not know HTTP or Triton, nor what runs in a slot.

| module | its one job |
| --- | --- |
| `limiter` | the slots of each model, a bounded wait, and each client's share |
| `fair_queue` | who waits for a slot: each client in a line of its own, served in turn |
| `service_time` | how long a model takes, as measured; `Retry-After` and early refusals come from it |
"""
