# SPDX-License-Identifier: Apache-2.0
"""Parts that every other package uses. It imports none of them.

It owns errors and their HTTP form, settings, URL prefixes, and the state of one request. It knows nothing of Triton,
models or pictures.

| module | purpose |
| --- | --- |
| `settings` | all settings, with default and description |
| `urls` | checks of the URLs among the settings |
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
| `file_watch`, `file_lock`, `atomic_file` | reload changed files, lock between processes, write files atomically |
| `public_urls`, `public_addresses` | requests to URLs that clients name; checks that an address is public |
| `sse_parser` | parses server-sent events |
| `wrong_values` | sentences about wrong values |
| `suggestions` | "did you mean" in errors |
| `bundle` | paths of the app, models and examples in the package |
"""
