# SPDX-License-Identifier: Apache-2.0
"""Request bodies: reads them, checks their cost before parsing, and validates them.

This package owns the limits on JSON and forms, and the errors of validation. It must not know tensors.

| module | purpose |
| --- | --- |
| `raw_body` | reads a body; runs the work on a long one in a thread |
| `validation` | a body → the request model, or every problem with it |
| `json_text` | rejects repeated members and NaN, which parsers accept; explains why a body is not JSON |
| `large_json` | rejects JSON whose Python objects would take much memory |
| `json_scanner` | finds the strings of JSON in windows of bytes, without parsing it |
| `long_fields` | the fields of a model that can hold long texts |
| `forms` | `multipart/form-data` |
"""
