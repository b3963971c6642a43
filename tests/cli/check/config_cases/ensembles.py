# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for ensembles. In most of them the ensemble `m` runs the model `s`, and then maybe `s2`."""

from collections.abc import Mapping, Sequence

from config_cases.case import Case, inert, python

INVALID, UNAVAILABLE, MISMATCH = "invalid-ensemble", "ensemble-step-unavailable", "ensemble-tensor-mismatch"
DECOUPLED = "model_transaction_policy { decoupled: true }"


def tensor(name: str, dims: str, datatype: str = "FP32", more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ] {more} }}'


X, Y = tensor("x", "2"), tensor("y", "1")


def tensors(*inputs: str, outputs: Sequence[str] = (Y,)) -> str:
    return f"input [ {', '.join(inputs)} ] output [ {', '.join(outputs)} ]"


def maps(kind: str, pairs: str) -> str:
    """`x=a y=b`: a map from the model's tensors to ensemble tensors."""
    entries = [each.split("=") for each in pairs.split()]
    return " ".join(f'{kind} {{ key: "{name}" value: "{value}" }}' for name, value in entries)


def step(model: str = "s", inputs: str = "x=x", outputs: str = "y=y", version: str = "-1") -> str:
    more = f"{maps('input_map', inputs)} {maps('output_map', outputs)}"
    return f'{{ model_name: "{model}" model_version: {version} {more} }}'


FIRST, SECOND = step(outputs="y=middle"), step("s2", "x=middle")
JOIN = step("join", "a=p b=q")


def ensemble(*steps: str, more: str = "", io: str = tensors(X), platform: str = 'platform: "ensemble"') -> str:
    return f"{platform} {io} {more} ensemble_scheduling {{ step [ {', '.join(steps or [step()])} ] }}"


def second(dims: str = "1", datatype: str = "FP32", more: str = "") -> dict[str, str]:
    return {"s2": inert(more, tensors(tensor("x", dims, datatype)))}


def case(
    name: str,
    config: str,
    code: str | None = None,
    words: str = "",
    models: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
    not_in_triton: str = "",
) -> Case:
    """`models`: the configs of other models than `m`. A model without a config gets an inert one."""
    configs = {"s": inert(), **(models or {})}
    contents = {f"{model}/config.pbtxt": text for model, text in configs.items()} | dict.fromkeys(files, "")
    return Case(f"ensemble: {name}", config, code, words, contents, not_in_triton)


SETTINGS = [
    case("one step", ensemble()),
    case("without platform", ensemble(platform=""), INVALID, "whose platform is not ensemble: it is ''"),
    case("of a backend", ensemble(platform='backend: "inert"'), INVALID, "whose platform is not ensemble"),
    case("platform and backend", ensemble(more='backend: "inert"'), INVALID, "`backend` is `inert`"),
    case("file of a backend", ensemble(more='default_model_filename: "model.onnx"'), INVALID, "makes onnxruntime"),
    case("file of no backend", ensemble(more='default_model_filename: "model.bin"')),
    case("without scheduling", f'platform: "ensemble" {tensors(X)}', INVALID, "ensemble scheduling must be set"),
    case(
        "backend without scheduling",
        f'platform: "ensemble" {inert(tensors=tensors(X))}',
        INVALID,
        "`backend` is `inert`",
    ),
    case("instance group", ensemble(more="instance_group { count: 1 }"), INVALID, "instance group should not be"),
    case("optimization", ensemble(more="optimization { }"), INVALID, "optimization should not be specified"),
    case("warm-up", ensemble(more='model_warmup { name: "w" }'), INVALID, "model_warmup can not be specified"),
    case("dynamic batching", ensemble(more="dynamic_batching { }"), "unreadable-config", "dynamic_batching"),
    case("parameters", ensemble(more='parameters { key: "a" value { string_value: "b" } }')),
    case("without a version folder", ensemble(), "no-version", "no version folder", files=["m/docs/README"]),
    case("response cache", ensemble(more="response_cache { enable: true }")),
    case(
        "response cache and a decoupled step",
        ensemble(more="response_cache { enable: true }"),
        "invalid-response-cache",
        "Response Cache does not currently support a model with 'decoupled' transaction policy: a step is decoupled",
        {"s": inert(DECOUPLED)},
    ),
    case(
        "response cache, said to be decoupled",
        ensemble(more=f"response_cache {{ enable: true }} {DECOUPLED}"),
        "invalid-response-cache",
    ),
]

STEPS = [
    case("no steps", f'platform: "ensemble" {tensors(X)} ensemble_scheduling {{ }}', INVALID, "must specify 'step'"),
    case("no model_name", ensemble(step("")), INVALID, "must specify 'model_name' in step 0"),
    case("no input_map", ensemble(step(), step(inputs="", outputs="y=z")), INVALID, "'input_map' in step 1"),
    case("no output_map", ensemble(step(outputs="")), INVALID, "must specify 'output_map' in step 0"),
    case("the last of two equal keys counts", ensemble(step(inputs="x=other x=x"))),
    *(case(f"runs {name}", ensemble(step(name)), models={name: inert()}) for name in ("_s", ".s")),
    case("the namespace is ignored", ensemble(step(version='-1 model_namespace: "elsewhere"'))),
    case("input unused", ensemble(io=tensors(X, tensor("u", "1"))), INVALID, "ensemble input `u` is not used"),
    case("output unwritten", ensemble(io=tensors(X, outputs=[Y, tensor("u", "1")])), INVALID, "`u` is not written"),
    case("output is an input", ensemble(io=tensors(X, outputs=[Y, X]))),
    case("output of another datatype than the input", ensemble(io=tensors(X, outputs=[Y, tensor("x", "9", "INT8")]))),
    case(
        "nothing feeds a step",
        ensemble(step(), step("s2", "x=nowhere", "y=z"), io=tensors(X, outputs=[Y, tensor("z", "1")])),
        INVALID,
        "step 1 (`s2`) reads ensemble tensor `nowhere`, which is not connected",
        second(),
    ),
    case("tensor unused", ensemble(step(), step("s2", "x=y", "y=z")), INVALID, "tensor `z` is unused", second()),
    case("tensor written twice", ensemble(step(), step()), INVALID, "`y` can appear in an output map only once"),
    case(
        "input written by a step",
        ensemble(step(outputs="y=y z=x")),
        models={"s": inert(tensors=tensors(X, outputs=[Y, tensor("z", "2")]))},
    ),
    case(
        "input that a step only writes",
        ensemble(step(outputs="y=y z=e"), io=tensors(X, tensor("e", "2"), outputs=[Y, tensor("e", "2")])),
        models={"s": inert(tensors=tensors(X, outputs=[Y, tensor("z", "2")]))},
    ),
    case(
        "steps wait for each other",
        ensemble(
            step(inputs="x=x w=b", outputs="y=a"), step("s2", "x=a", "y=b"), io=tensors(X, outputs=[tensor("b", "1")])
        ),
        INVALID,
        "step 0 (`s`) and step 1 (`s2`) are not written",
        {"s": inert(tensors=tensors(X, tensor("w", "1"))), **second()},
    ),
    case("two steps", ensemble(FIRST, SECOND), models=second()),
    case("two steps in reverse", ensemble(SECOND, FIRST), models=second()),
]

VERSIONS = ["s/1/file", "s/2/file"]
MODELS = [
    case("no such model", ensemble(step("nope")), UNAVAILABLE, "the repository has no `nope`"),
    case("model with errors", ensemble(), UNAVAILABLE, "`s`, which is not valid", {"s": inert('name: "other"')}),
    case("model without version", ensemble(), UNAVAILABLE, "`s`, which is not valid", files=["s/docs/README"]),
    case(
        "model with errors of another datatype",
        ensemble(),
        UNAVAILABLE,
        "`s`, which is not valid",
        {"s": inert('name: "other"', tensors(tensor("x", "2", "INT8")))},
    ),
    case(
        "model whose policy leaves out all versions",
        ensemble(),
        UNAVAILABLE,
        "`s`, which is not valid or has no loaded version",
        {"s": inert("version_policy { specific { versions: [ 3 ] } }")},
    ),
    case("version", ensemble(step(version="1"))),
    case("no such version", ensemble(step(version="3")), UNAVAILABLE, "version 3 is not loaded: Triton loads 1"),
    case("version omitted", ensemble(step(version="0")), UNAVAILABLE, "version 0 is not loaded"),
    case("old version", ensemble(step(version="1")), UNAVAILABLE, "Triton loads 2", files=VERSIONS),
    *(
        case(f"version of {policy}", ensemble(step(version="1")), models={"s": inert(policy)}, files=VERSIONS)
        for policy in (
            "version_policy { }",
            "version_policy { all { } }",
            "version_policy { latest { num_versions: 2 } }",
            "version_policy { specific { versions: [ 1, 3 ] } }",
        )
    ),
    case(
        "version that the policy leaves out",
        ensemble(step(version="1")),
        UNAVAILABLE,
        "Triton loads 2",
        {"s": inert("version_policy { specific { versions: [ 2 ] } }")},
        VERSIONS,
    ),
    case("nested", ensemble(), models={"s": ensemble(step("t")), "t": inert()}),
    case("nested with errors", ensemble(), UNAVAILABLE, "`s`, which is not valid", {"s": ensemble(step("nope"))}),
    case("runs itself", ensemble(step("m")), UNAVAILABLE, "circular dependency between ensembles: m -> m"),
    case("runs its user", ensemble(), UNAVAILABLE, "ensembles: m -> s -> m", {"s": ensemble(step("m"))}),
    case(
        "runs a circle",
        ensemble(),
        UNAVAILABLE,
        "`s`, which is not valid",
        {"s": ensemble(step("t")), "t": ensemble()},
        not_in_triton="Triton's check for circles recurses until its stack overflows",
    ),
    case("Python model without tensors", ensemble(), MISMATCH, "non-existing input `x`", {"s": python(tensors="")}),
    case("model without tensors", ensemble(), models={"s": inert(tensors="")}, not_in_triton="inert adds no tensors"),
]

W = tensor("w", "2")
MAPS = [
    case("no such input", ensemble(step(inputs="x=x q=x")), MISMATCH, "`x` is mapping to non-existing input `q`"),
    case(
        "no such output",
        ensemble(step(outputs="y=y q=z"), io=tensors(X, outputs=[Y, tensor("z", "1")])),
        MISMATCH,
        "`z` is mapped from non-existing output `q`",
    ),
    case("input missing", ensemble(), MISMATCH, "input `w` of step 0 (`s`)", {"s": inert(tensors=tensors(X, W))}),
    case(
        "optional input missing",
        ensemble(),
        models={"s": inert(tensors=tensors(X, tensor("w", "2", more="optional: true")))},
    ),
    case(
        "output declared twice",
        ensemble(),
        MISMATCH,
        "multiple outputs in step 0 (`s`) are mapped to the same ensemble tensor `y`: it declares `y` 2 times",
        {"s": inert(tensors=tensors(X, outputs=[Y, Y]))},
    ),
    case("unmapped output declared twice", ensemble(), models={"s": inert(tensors=tensors(X, outputs=[Y, W, W]))}),
    case("output left out", ensemble(), models={"s": inert(tensors=tensors(X, outputs=[Y, W]))}),
    case("one tensor for two inputs", ensemble(step(inputs="x=x w=x")), models={"s": inert(tensors=tensors(X, W))}),
]

TYPES = [
    case(
        "datatype of the input", ensemble(io=tensors(tensor("x", "2", "INT8"))), MISMATCH, "TYPE_INT8 in the ensemble"
    ),
    case(
        "datatype of the output", ensemble(io=tensors(X, outputs=[tensor("y", "1", "INT8")])), MISMATCH, "`y` of step"
    ),
    case(
        "datatype between steps",
        ensemble(FIRST, SECOND),
        MISMATCH,
        "`middle`: inconsistent data type: TYPE_FP32 in output `y` of step 0 (`s`), TYPE_INT8 in input `x` of step 1 ",
        second(datatype="INT8"),
    ),
    case("shape of the input", ensemble(io=tensors(tensor("x", "3"))), MISMATCH, "[3] in the ensemble's input, [2]"),
    case("shape of the output", ensemble(io=tensors(X, outputs=[tensor("y", "3")])), MISMATCH, "[3] in the ensemble's"),
    case("shape between steps", ensemble(FIRST, SECOND), MISMATCH, "inconsistent shape: [1] in", second("3")),
    case("rank between steps", ensemble(FIRST, SECOND), MISMATCH, "[1, 1] in input", second("1, 1")),
    case("free dim between steps", ensemble(FIRST, SECOND), models=second("-1")),
    case(
        "a free dim comes first",
        ensemble(
            FIRST, step("s2", "x=middle", "y=z"), step("s3", "x=middle"), io=tensors(X, outputs=[Y, tensor("z", "1")])
        ),
        models={
            "s": inert(tensors=tensors(X, outputs=[tensor("y", "-1")])),
            **second("3"),
            "s3": inert(tensors=tensors(tensor("x", "4"))),
        },
    ),
    case(
        "the first of two inputs is free",
        ensemble(step("s2", "w=middle x=middle"), FIRST),
        models={"s2": inert(tensors=tensors(tensor("x", "-1"), tensor("w", "3")))},
    ),
    case(
        "the first of two inputs is fixed",
        ensemble(step("s2", "w=middle x=middle"), FIRST),
        MISMATCH,
        "inconsistent shape: [3] in input `w` of step 0 (`s2`), [1] in output `y` of step 1 (`s`)",
        {"s2": inert(tensors=tensors(tensor("w", "3"), tensor("x", "-1")))},
    ),
    case("reshape of the input", ensemble(io=tensors(tensor("x", "1, 2", more="reshape { shape: [ 2 ] }")))),
    case(
        "wrong reshape of the input",
        ensemble(io=tensors(tensor("x", "2", more="reshape { shape: [ 1, 2 ] }"))),
        MISMATCH,
        "[1, 2] in the ensemble's input",
    ),
    case(
        "reshape within a step",
        ensemble(FIRST, SECOND),
        models={"s2": inert(tensors=tensors(tensor("x", "1", more="reshape { shape: [ 1, 1 ] }")))},
    ),
    case(
        "batch larger than a step's",
        ensemble(more="max_batch_size: 8"),
        MISMATCH,
        "only allows maximum batch size to be 4",
        {"s": inert("max_batch_size: 4")},
    ),
    case("batch smaller than a step's", ensemble(more="max_batch_size: 4"), models={"s": inert("max_batch_size: 8")}),
    case("step without batch", ensemble(more="max_batch_size: 8")),
    case(
        "only a step batches",
        ensemble(io=tensors(tensor("x", "-1, 2"), outputs=[tensor("y", "-1, 1")])),
        models={"s": inert("max_batch_size: 4")},
    ),
    case(
        "another number of rows",
        ensemble(io=tensors(tensor("x", "3, 2"))),
        MISMATCH,
        "[3, 2] in the ensemble's input, [2]",
    ),
]

P_AND_Q = {"join": inert(tensors=tensors(tensor("a", "1"), tensor("b", "1")))}
BOTH = tensors(X, tensor("q", "1"))
SIBLINGS = inert(DECOUPLED, tensors(X, outputs=[Y, tensor("z", "1")]))
SOURCES = "originated from different decoupled models"
DECOUPLED_STEPS = [
    case("decoupled step", ensemble(), models={"s": inert(DECOUPLED)}),
    case("two decoupled steps", ensemble(FIRST, SECOND), models={"s": inert(DECOUPLED), **second(more=DECOUPLED)}),
    case(
        "decoupled step joins the request",
        ensemble(step(outputs="y=p"), JOIN, io=BOTH),
        MISMATCH,
        f"step 1 (`join`) receives inputs {SOURCES}: `p` from step 0 (`s`) and `q` from the ensemble's request",
        {"s": inert(DECOUPLED), **P_AND_Q},
    ),
    case(
        "outputs of different sources",
        ensemble(
            step(outputs="y=p"), step("s2", "x=q"), io=tensors(X, tensor("q", "1"), outputs=[Y, tensor("p", "1")])
        ),
        MISMATCH,
        f"the ensemble receives outputs {SOURCES}",
        {"s": inert(DECOUPLED), **second()},
    ),
    case("outputs of one decoupled step", ensemble(step(outputs="y=p z=q"), JOIN), models={"s": SIBLINGS, **P_AND_Q}),
    case(
        "decoupled steps after each other are joined",
        ensemble(step(outputs="y=p z=r"), step("s2", "x=r", "y=q"), JOIN),
        MISMATCH,
        SOURCES,
        {"s": SIBLINGS, **second(more=DECOUPLED), **P_AND_Q},
    ),
    case(
        "decoupled nested ensemble joins the request",
        ensemble(step(outputs="y=p"), JOIN, io=BOTH),
        MISMATCH,
        SOURCES,
        {"s": ensemble(step("t")), "t": inert(DECOUPLED), **P_AND_Q},
    ),
    case(
        "only the steps decide what is decoupled",
        ensemble(step(outputs="y=p"), JOIN, io=BOTH),
        models={"s": ensemble(step("t"), more=DECOUPLED), "t": inert(), **P_AND_Q},
    ),
]

CASES = [*SETTINGS, *STEPS, *MODELS, *MAPS, *TYPES, *DECOUPLED_STEPS]
