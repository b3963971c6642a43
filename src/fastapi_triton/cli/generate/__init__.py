# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton generate`: pictures from a scribble and a prompt.

| module | its one job |
| --- | --- |
| `command` | the options, and the exit status |
| `request` | options, example or receipt → the request |
| `receipt` | reads from a picture file how the picture was made |
| `run` | runs the request, and compares pictures that are made again |
| `client` | the HTTP client of the endpoint |
| `local_server` | a server for this run, if none answers |
| `outputs` | names and writes the files |
| `progress` | progress bar and messages |
| `errors` | errors as texts with the names of options |
"""
