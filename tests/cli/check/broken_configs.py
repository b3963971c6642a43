# SPDX-License-Identifier: Apache-2.0
"""For each rule for a config: broken ones with a part of the finding, and similar ones that are fine."""

from model_folders import (
    AUTO_COMPLETE,
    BATCHED,
    ENGINE,
    TENSORS,
    UNBATCHED,
    Folder,
    accelerated,
    corrid,
    inputs,
    labels,
    parameter,
    queue,
    rate_limited,
    vae,
)

# rule code → broken folders with a part of the finding, folders that are fine
CASES: dict[str, tuple[list[tuple[Folder, str]], list[Folder]]] = {
    "unreadable-config": (
        [
            (
                Folder("max_batch_size: 8\nfoo: 1"),
                'config.pbtxt:2:1: Message type "inference.ModelConfig" has no field named "foo"',
            )
        ],
        [Folder()],
    ),
    "unfilled-placeholder": (
        [
            (
                Folder(f'{BATCHED} parameters {{ key: "gpus" value {{ string_value: "a-${{gpus}}" }} }}'),
                "`parameters.gpus.string_value` has ${gpus}, a placeholder that was never filled in",
            ),
            (Folder(f'{BATCHED} parameters {{ key: "${{key}}" }}'), "`parameters.key` has ${key}"),
            (Folder(BATCHED.replace('"y"', '"${y}"')), "`output[0].name` has ${y}"),
        ],
        [Folder(f'{BATCHED} parameters {{ key: "k" value {{ string_value: "$$TRITON_MODEL_DIRECTORY/env" }} }}')],
    ),
    "invisible-character": (
        [
            (Folder(BATCHED.replace('"y"', '"y\u00a0"')), "`output[0].name` has U+00A0 NO-BREAK SPACE"),
            (Folder(BATCHED.replace('"python"', '"python\u200b"')), "`backend` has U+200B ZERO WIDTH SPACE"),
        ],
        [Folder(f'{BATCHED} parameters {{ key: "k" value {{ string_value: "a\\nb\u00a0" }} }}')],
    ),
    "no-config": ([(Folder(None), "there is no config.pbtxt")], [Folder()]),
    "auto-completed": (
        [
            (Folder('backend: "onnxruntime" input { name: "x" data_type: TYPE_FP32 dims: 1 }'), "declares no outputs"),
            (Folder('backend: "python"', AUTO_COMPLETE), "declares no inputs"),
            (Folder('backend: "python"', "from base import TritonPythonModel"), "declares no inputs"),
            (Folder('backend: "python"', "class TritonPythonModel(Base):\n    pass"), "declares no inputs"),
            (Folder('backend: "python"', f"class TritonPythonModel(a{'.b' * 400}):\n    pass"), "declares no inputs"),
            (Folder(inputs('{ name: "x" }'), AUTO_COMPLETE), "model input 'x' does not specify data_type and dims"),
        ],
        [Folder(), Folder('backend: "python"')],
    ),
    "no-tensors": (
        [
            (Folder('backend: "python" input { name: "x" data_type: TYPE_FP32 dims: 1 }'), "declares no outputs"),
            (Folder(None), "declares no inputs"),
            (Folder('backend: "python"', "class TritonPythonModel(object):\n    pass"), "declares no inputs"),
        ],
        [Folder(), Folder('backend: "python"', AUTO_COMPLETE), Folder('backend: "onnxruntime"')],
    ),
    "duplicate-output": (
        [(Folder(f'{BATCHED} output {{ name: "y" data_type: TYPE_FP32 dims: 1 }}'), "`y` is declared 2 times")],
        [Folder()],
    ),
    "label-file-outside": (
        [(Folder(labels("../n/labels.txt")), "label file path ../n/labels.txt is outside")],
        [Folder(labels("labels.txt")), Folder(labels("/labels.txt")), Folder()],
    ),
    "shell-characters": (
        [
            (Folder(name="a;b"), "the name has `;`"),
            (Folder(name="a b"), "the name has ` `"),
            (Folder(name="#a"), "the name has `#`"),
            (Folder(f'{BATCHED} default_model_filename: "a b.py"'), "the file name has ` `"),
        ],
        [Folder(name="a-b_2.c"), Folder(name="a#b"), Folder('platform: "onnxruntime_onnx"', name="a b")],
    ),
    "invalid-backend": (
        [(Folder(TENSORS, None), "Could not determine backend for model 'm'")],
        [Folder(TENSORS, None, name="m.custom")],
    ),
    "unknown-backend": (
        [
            (Folder(UNBATCHED.replace('"python"', f'"{name}"')), f"did you mean `{likely}`?")
            for name, likely in {
                "onnx": "onnxruntime",
                "onnxruntime_onnx": "onnxruntime",
                "pyton": "python",
                "tensorrt_llm": "tensorrtllm",
                "torch": "pytorch",
            }.items()
        ],
        [Folder(UNBATCHED.replace('"python"', f'"{name}"')) for name in ("python", "vllm", "inert", "custom")],
    ),
    "no-weights": (
        [
            (Folder('platform: "onnxruntime_onnx"'), "unable to find 1/model.onnx"),
            (Folder('backend: "pytorch" default_model_filename: "a.pt"'), "unable to find 1/a.pt"),
        ],
        [
            Folder('backend: "pytorch" default_model_filename: "model.py"'),
            Folder('backend: "tensorrt" cc_model_filenames { key: "8.0" value: "a.plan" }'),
            Folder('backend: "pytorch" runtime: "model.py"'),
            Folder('backend: "custom"'),
            Folder(),
        ],
    ),
    "shell-patterns": (
        [(Folder(name="a*b"), "the name has `*`"), (Folder(name="a#b"), "the name has `#`")],
        [Folder(name="a-b_2.c"), Folder('platform: "onnxruntime_onnx"', name="a*b")],
    ),
    "name-mismatch": (
        [(Folder(f'name: "other" {BATCHED}'), "directory name must equal model name")],
        [Folder(f'name: "m" {BATCHED}'), Folder()],
    ),
    "no-version": (
        [
            (Folder(version="latest"), "there is no version folder"),
            (Folder(f"{TENSORS} ensemble_scheduling {{ }}", None, version="docs"), "there is no version folder"),
        ],
        [Folder(version="12")],
    ),
    "missing-checkpoint": (
        [
            (Folder(parameter("checkpoint", "demo"), ENGINE), "checkpoint names demo, but there is no 1/demo"),
            (Folder(parameter("vae", "x.safetensors"), ENGINE), "vae names x.safetensors, but there is no 1/x.safe"),
            (Folder(parameter("unet", "a/x.safetensors"), ENGINE), "there is no 1/a/x.safetensors"),
            (Folder(parameter("checkpoint", "a/b/x.ckpt"), ENGINE), "names the pickle a/b/x.ckpt, which can run code"),
        ],
        [
            Folder(parameter("checkpoint", "model.py"), ENGINE),
            Folder(parameter("checkpoint", ""), ENGINE),
            Folder(parameter("checkpoint", "owner/model"), ENGINE),
            Folder(parameter("checkpoint", "owner/model/x.safetensors"), ENGINE),
            Folder(parameter("checkpoint", "/mnt/x.safetensors"), ENGINE),
            Folder(parameter("checkpoint", "demo")),
        ],
    ),
    "vae-in-float32": (
        [
            (vae(', "force_upcast": true'), "xl/vae/config.json sets force_upcast: on a GPU the VAE runs in float32"),
            (vae(""), "decoding 1024x1024 takes 3 GiB"),
            (vae("", ("dtype", "fp16"), ("vae_dtype", "auto"), ("device", "cpu")), "takes 3 GiB"),
            (vae(', "block_out_channels": 7'), "takes 3 GiB"),
            (vae("", ("vae", "own"), folder="own"), "own/config.json sets force_upcast"),
        ],
        [
            vae(', "force_upcast": false'),
            vae("", ("dtype", "bfloat16")),
            vae("", ("device", "cpu")),
            vae("", ("vae_dtype", "bfloat16")),
            vae("", ("vae", "owner/vae")),
            vae("", model="import torch"),
            vae("]"),
        ],
    ),
    "no-model-file": (
        [
            (Folder(model_py=None), "model.py does not exist in the model repository path: 1/model.py"),
            (Folder(f'{BATCHED} default_model_filename: "a.py"'), "path: 1/a.py"),
        ],
        [Folder(), Folder(BATCHED.replace("python", "onnxruntime"), None)],
    ),
    "no-dynamic-batching": (
        [(Folder(BATCHED), "max_batch_size is 8, but there is no dynamic_batching")],
        [
            Folder(f"{BATCHED} dynamic_batching {{ }}"),
            Folder(f"{BATCHED} sequence_batching {{ }}"),
            Folder(f"{BATCHED} ensemble_scheduling {{ }}"),
            Folder(UNBATCHED),
        ],
    ),
    "unbounded-queue": (
        [
            (Folder(f"{BATCHED} dynamic_batching {{ }}"), "dynamic_batching has no max_queue_size"),
            (Folder(queue("max_queue_size: 0")), "dynamic_batching has no max_queue_size"),
            (Folder(UNBATCHED), "max_batch_size is 0 and there is no dynamic_batching"),
        ],
        [Folder(queue("max_queue_size: 8")), Folder(f"{UNBATCHED} ensemble_scheduling {{ }}"), Folder(None)],
    ),
    "text-sequence-id": (
        [(Folder(f"{BATCHED} {corrid('TYPE_STRING')}"), "'ID' shows the sequence id as TYPE_STRING")],
        [
            Folder(f"{BATCHED} {corrid('TYPE_UINT64')}"),
            Folder(f"{BATCHED.replace('python', 'onnxruntime')} {corrid('TYPE_STRING')}"),
        ],
    ),
    "unknown-accelerator": (
        [(Folder(accelerated("onnxruntime", "onnxruntime")), "unknown Execution Accelerator 'onnxruntime'")],
        [Folder(accelerated("onnxruntime", "tensorrt")), Folder(accelerated("tensorflow", "gpu_io")), Folder()],
    ),
    "conflicting-resource": (
        [(Folder(f"{BATCHED} {rate_limited(('R', True), ('R', False))}"), '"R" is present as both global and device-')],
        [Folder(f"{BATCHED} {rate_limited(('R', True), ('S', False))}"), Folder()],
    ),
    "timeout-override-ignored": (
        [(Folder(queue("allow_timeout_override: true")), "default_timeout_microseconds is 0")],
        [Folder(queue("allow_timeout_override: true default_timeout_microseconds: 5")), Folder(queue(""))],
    ),
    "timeout-override-off": (
        [(Folder(queue("default_timeout_microseconds: 5")), "requests cannot shorten it")],
        [Folder(queue("allow_timeout_override: true default_timeout_microseconds: 5")), Folder(queue(""))],
    ),
    "optional-beside-required": (
        [
            (
                Folder(
                    inputs(
                        '{ name: "a" data_type: TYPE_FP32 dims: 1 },'
                        '{ name: "b" data_type: TYPE_FP32 dims: 1 optional: true }'
                    )
                ),
                "`a` can be missing unnoticed",
            )
        ],
        [Folder(), Folder(inputs('{ name: "b" data_type: TYPE_FP32 dims: 1 optional: true }'))],
    ),
    "unstreamable-tensor": (
        [
            (
                Folder(
                    inputs('{ name: "x" data_type: TYPE_FP16 dims: 1 }', "model_transaction_policy { decoupled: true }")
                ),
                "the input `x` is FP16",
            ),
            (
                Folder(
                    inputs(
                        '{ name: "x" data_type: TYPE_FP32 dims: [ -1, -1 ] }',
                        "model_transaction_policy { decoupled: true }",
                    )
                ),
                "the input `x` has the dims [-1, -1]",
            ),
        ],
        [
            Folder(f"{UNBATCHED} model_transaction_policy {{ decoupled: true }}"),
            Folder(inputs('{ name: "x" data_type: TYPE_FP16 dims: [ 2, 2 ] }')),
        ],
    ),
    "batch-dimension": (
        [
            (
                Folder(BATCHED.replace("[ 2 ]", "[ -1, 3, 8 ]").replace("[ 1 ]", "[ -1, 2 ]")),
                "max_batch_size is 8, so the shape of `x` is [-1, -1, 3, 8]",
            )
        ],
        [
            Folder(BATCHED.replace("[ 2 ]", "[ -1, 3, 8 ]")),
            Folder(BATCHED.replace("[ 2 ]", "[ -1 ]").replace("[ 1 ]", "[ -1 ]")),
            Folder(UNBATCHED.replace("[ 2 ]", "[ -1, 3, 8 ]").replace("[ 1 ]", "[ -1, 2 ]")),
            Folder('backend: "onnxruntime" max_batch_size: 8', None),
        ],
    ),
    "response-cache": (
        [(Folder(f"{BATCHED} response_cache {{ enable: true }}"), "response_cache is on")],
        [Folder(f"{BATCHED} response_cache {{ enable: false }}"), Folder()],
    ),
}
