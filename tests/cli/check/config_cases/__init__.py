# SPDX-License-Identifier: Apache-2.0
"""Model repositories that Triton refuses to load, each for one reason, and similar ones that it loads.

`test_agrees_with_triton.py` holds each of them against `fastapi-triton check` and against a real Triton. Each module of
this package has the cases of one module of rules, in its list `CASES`.
"""
