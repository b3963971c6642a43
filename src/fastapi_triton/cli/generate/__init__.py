# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton generate`: makes pictures from a scribble and a prompt.

| module | purpose |
| --- | --- |
| `command` | the options, and the exit status |
| `request` | options, example or receipt → the request |
| `receipt` | reads the receipt in a picture file |
| `run` | sends the request, and compares remade pictures with the originals |
| `client` | HTTP client of the endpoint |
| `local_server` | starts a server for this run, if none is running |
| `outputs` | names and writes the files |
| `progress` | shows the progress bar and messages |
| `errors` | errors, with options instead of field names |
"""
