# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for instances and version policies."""

from config_cases.case import Case, inert

_NO_GPU = "it needs a GPU"


def _group(name: str, group: str, words: str = "", *, more: str = "", not_in_triton: str = "") -> Case:
    config = inert(f"{more} instance_group {{ {group} }}")
    return Case(name, config, "invalid-instance-group" if words else None, words, not_in_triton=not_in_triton)


def _versions(name: str, policy: str, words: str = "", *, folders: tuple[str, ...] = ("1", "3")) -> Case:
    files = {f"m/{each}/weights": "" for each in folders}
    config = inert(f"version_policy {{ {policy} }}" if policy else "")
    return Case(name, config, "invalid-version-policy" if words else None, words, files)


CASES = [
    _group("CPU", "kind: KIND_CPU count: 0"),
    _group("CPU with a GPU", "kind: KIND_CPU gpus: 0", "m_0 has kind KIND_CPU but specifies one or more GPUs: [0]"),
    _group("model with a GPU", 'name: "a" kind: KIND_MODEL gpus: 1', "instance group a has kind KIND_MODEL but"),
    _group("a kind of no name", "kind: 7", "m_0 has unexpected kind 7"),
    _group("any kind with GPU -1", "gpus: [ 0, -1 ]", "invalid or unsupported gpu id -1"),
    _group("any kind with GPU 0", "gpus: 0", not_in_triton=_NO_GPU),
    _group("GPU -1", "kind: KIND_GPU gpus: -1", "invalid or unsupported gpu id -1"),
    _group("GPU", "kind: KIND_GPU", not_in_triton=_NO_GPU),
    _group("count -1", "kind: KIND_CPU count: -1"),
    _group("profile", 'kind: KIND_CPU profile: "0"', "profile field which is only supported for TensorRT models"),
    _group("TensorRT profile", 'kind: KIND_CPU profile: "0"', more='platform: "tensorrt_plan"'),
    _group("no profile", 'kind: KIND_CPU profile: "-1"', "invalid profile '-1'", more='platform: "tensorrt_plan"'),
    _group("passive", "passive: true secondary_devices { kind: KIND_NVDLA device_id: -1 }"),
    _group("unknown host policy", 'host_policy: "nowhere"'),
    Case("groups of one name", inert('instance_group [ { name: "a" }, { name: "a" } ]')),
    _versions("newest version", ""),
    _versions("no latest versions", "latest { num_versions: 0 }", "at least one version must be available"),
    _versions("many latest versions", "latest { num_versions: 5 }"),
    _versions("no specific versions", "specific { }", "version policy: there are 1, 3"),
    _versions("missing version", "specific { versions: 2 }", "there are 1, 3, but it is specific { versions: [2] }"),
    _versions("missing and present version", "specific { versions: [ 2, 3 ] }"),
    _versions("all versions", "all { }"),
    _versions("version 1a", "specific { versions: 1 }", folders=("1a",)),  # Triton reads it as 1
    _versions("version -1", "", folders=("-1",)),
    Case("leading zero", inert(), "no-version", "Triton ignores `01`", {"m/01/weights": ""}),
    _versions("version 0", "", folders=("0",)),
    Case("no version", inert(), "no-version", files={"m/latest/weights": ""}),
    Case("optimization", inert("optimization { priority: PRIORITY_MAX cuda { graph_spec { batch_size: -3 } } }")),
]
