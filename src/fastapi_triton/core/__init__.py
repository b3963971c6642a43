# SPDX-License-Identifier: Apache-2.0
"""What every room uses. This room imports no other.

It owns errors and their HTTP form, settings, URL prefixes, and the state of one request. It must not know Triton,
models or pictures.

| module | its one job |
| --- | --- |
| `settings` | every setting, with default and description |
| `paths` | URL prefixes; a request's path below `root_path` |
| `errors` | the errors that clients get: status, code, text |
| `problem_details` | errors → `application/problem+json`, or another API's format |
| `context` | the current request's client, deadline and id |
| `request_record` | the current request's times and outcome |
| `slot` | the current request's slots of its model |
| `disconnect` | cancels work when the client disconnects |
| `body_buffers` | limits the memory of request bodies |
| `shutdown` | the phases of a shutdown |
| `background` | supervised background tasks |
| `backoff` | pauses between attempts |
| `file_watch`, `file_lock`, `atomic_file` | reloaded files, locks between processes, files that are written whole |
| `sse_parser` | parses server-sent events |
| `suggestions` | "did you mean" |
| `bundle` | where the app, models and examples of the package lie |
"""
