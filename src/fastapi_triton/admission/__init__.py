# SPDX-License-Identifier: Apache-2.0
"""Which requests may go to a model now, which wait for it, and which are refused. Knows no HTTP and no Triton.

- `limiter`: slots of each model, a bounded wait, shares of clients
- `fair_queue`: who waits for a slot: clients in turn, each with its own line
- `service_time`: how long a model takes, as measured; from it come `Retry-After` and early refusals
"""
