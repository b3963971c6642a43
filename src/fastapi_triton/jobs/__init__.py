# SPDX-License-Identifier: Apache-2.0
"""Background jobs: requests that run in the background and survive a restart. Requests with the same
`Idempotency-Key` run once.

The queue is DBOS, a library. Its database is the source of truth for a job's state: id, caller, status, times, error.
The rest is in files, because DBOS's public API does not suit it:

- `files/<id>/`: the request and the result, which are megabytes and which DBOS would store twice; and the progress,
  which changes several times a second, while DBOS stores every value
- `expired/`: marks for jobs that were deleted, of which DBOS has no record
- `executors/`: one lock for each process, because only DBOS's paid service notices dead processes

This package must not know which API received a job's request.

DBOS keeps its state in one global object, so a process can have only one app with jobs.

| module | purpose |
| --- | --- |
| `routes`, `submission` | `/jobs`; the requests that become jobs: `Prefer: respond-async`, `Idempotency-Key` |
| `manager` | accepts, finds, runs and cancels jobs |
| `dbos_queue`, `sqlite_clock` | the durable queue; the only module that uses DBOS; its clock on an old SQLite |
| `runner` | runs one job at its endpoint, with retries while Triton is not available |
| `interfaces`, `declared`, `generated` | the interface of an endpoint for jobs, and one implementation for each kind |
| `store` | a job's files |
| `job`, `schemas` | a job's state; its JSON in responses |
| `event_stream`, `results` | a job's events; its result or error |
| `liveness`, `cleanup` | finds dead processes; requeues their jobs, and deletes expired jobs |
| `webhooks` | signed notifications to a client's server |
"""
