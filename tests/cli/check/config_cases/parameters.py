# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for parameters, runtimes and repository agents."""

from config_cases.case import TENSORS, Case, inert, python

_NO_TENSORRT = "the embedded Triton has no TensorRT"


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def _invalid(name: str, config: str, words: str, *, not_in_triton: str = "") -> Case:
    return Case(name, config, "invalid-parameter", words, not_in_triton=not_in_triton)


def _runtime(name: str, runtime: str, words: str = "", *, not_in_triton: str = "") -> Case:
    config = inert(f'runtime: "{runtime}"')
    return Case(name, config, "invalid-runtime" if words else None, words, not_in_triton=not_in_triton)


def _agents(name: str, agents: str, words: str = "", *, not_in_triton: str = "") -> Case:
    config = inert(f"model_repository_agents {{ {agents} }}")
    return Case(name, config, "invalid-repository-agents" if words else None, words, not_in_triton=not_in_triton)


def _tensorrt(more: str) -> str:
    return f'backend: "tensorrt" {TENSORS} {more}'


CASES = [
    _invalid(
        "CPU tensors: true",
        python(_parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "true")),
        "Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: `true`; valid: yes, no",
    ),
    Case("CPU tensors of no Python model", inert(_parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "true"))),
    _invalid(
        "missing environment",
        python(_parameter("EXECUTION_ENV_PATH", "$$TRITON_MODEL_DIRECTORY/env.tar.gz")),
        "Failed to get the canonical path for EXECUTION_ENV_PATH",
    ),
    _invalid(
        "unknown strategy",
        _tensorrt(_parameter("allocation_strategy", "DYNAMIC")),
        "`DYNAMIC`",
        not_in_triton=_NO_TENSORRT,
    ),
    Case("strategy", _tensorrt(_parameter("allocation_strategy", "STATIC")), not_in_triton=_NO_TENSORRT),
    _runtime("runtime elsewhere", "../x/libtriton_inert.so", "escapes backend directory"),
    _runtime("runtime that is no library", "fast", "unable to find backend library 'fast'"),
    _runtime("runtime", "libtriton_inert.so", not_in_triton="it takes the test's link to the library for an escape"),
    _agents("agent without a name", "agents { }", "unable to find 'libtritonrepoagent_.so'"),
    _agents("no agents", "", "lists no agents", not_in_triton="it crashes Triton 2.51"),
    _agents("agent", 'agents { name: "checksum" }', not_in_triton="the embedded Triton has no agents"),
]
