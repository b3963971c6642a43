# SPDX-License-Identifier: Apache-2.0
"""Background jobs: requests that are answered later, that survive restarts, and that are never run twice for one key.

DBOS's database is the source of truth for a job's state: whether there is one, whose it is, whether it waits, runs or
is over, since when, and with which problem. The rest lies in files, since DBOS's public API has no place for it:

- `files/<id>/`: the request and the result, megabytes that DBOS would keep twice, for the step and for the workflow;
  and the progress, which changes several times a second, while DBOS keeps every value of an event
- `expired/`: marks for jobs that were deleted, of which DBOS knows nothing any more
- `executors/`: a lock per process, since DBOS learns of a dead process only from its paid service

It must not know which API a job's request came by.

| module | its one job |
| --- | --- |
| `routes`, `submission` | `/jobs`; requests that become jobs: `Prefer: respond-async`, `Idempotency-Key` |
| `manager` | accepts, shows, cancels and expires jobs |
| `dbos_queue` | the durable queue; the only module that knows DBOS |
| `runner` | runs one job at its endpoint, again if Triton goes away |
| `interfaces`, `declared`, `generated` | what a job needs of an endpoint, and how each kind does it |
| `store` | the files of a job |
| `job`, `schemas` | a job as it is now; as its client reads it |
| `event_stream`, `results` | a job's events; its response or error |
| `liveness`, `cleanup` | which processes live; requeues what dead ones left, deletes what is long over |
| `webhooks`, `public_addresses` | signed calls to a client's server; which addresses are public |
"""
