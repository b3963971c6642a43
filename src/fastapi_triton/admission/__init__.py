# SPDX-License-Identifier: Apache-2.0
"""Admission of requests: slots of each model, and a bounded queue for them.

This package must not know HTTP, Triton, or what runs in a slot.

| module | purpose |
| --- | --- |
| `limiter` | the slots of each model, their queue, and the limit of each caller |
| `priority_queue` | the requests that wait for a slot, of both priorities |
| `fair_queue` | those of one priority, round-robin across callers |
| `model_queue` | the requests with a slot that wait in the model's own queue |
| `service_time` | measured service times, for `Retry-After` and early rejections |
"""
