# SPDX-License-Identifier: Apache-2.0
"""The engine's `model.py` from its import to its end, and its metrics."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from drawings import VERSION_FOLDER
from stream_model import MODEL_CONFIG, events, request
from triton_backend import FAMILIES


def test_unloading_responds_to_all_requests(make_model: Callable[..., Any]) -> None:
    model = make_model()
    sent = [request(num_inference_steps=50, seed=seed) for seed in range(3)]
    model.execute(sent)
    model.finalize()
    assert all(one.has_ended for one in sent)
    assert {one.final().problem["code"] for one in sent if one.final().has_error()} <= {"shutting_down"}
    model.finalize = lambda: None


def test_the_metrics_are_published_with_their_labels(model: Any) -> None:
    sent = request(num_inference_steps=2)
    model.execute([sent])
    sent.all_responses()
    model.watcher.stop()
    assert FAMILIES["sdxl_engine_steps_total"].metrics['{"size": "96x96"}'].value == 2
    assert FAMILIES["sdxl_engine_rows_total"].metrics['{"size": "96x96"}'].value == 4
    assert FAMILIES["sdxl_engine_requests_total"].metrics['{"how": "finished"}'].value == 1
    assert FAMILIES["sdxl_engine_requests"].metrics["{}"].value == 0
    assert FAMILIES["sdxl_engine_requests"].kind == "gauge"


def test_model_loads_with_the_parameters_of_its_config(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"DEVICE": "cpu", "MAX_ROWS": "4", "POLICY": "shortest_remaining", "TRACE": "no"}
    for name, value in settings.items():
        monkeypatch.setenv(f"SDXL_{name}", value)
    model = module.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(MODEL_CONFIG),
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    sent, described = request(), request(describe=True)
    model.execute([sent, described])
    assert events(sent)[-1] == "completed"
    engine = json.loads(described.final().outputs()["info"][0])["engine"]
    assert (engine["policy"], engine["max_requests"], engine["max_rows"]["96x96"]) == ("shortest_remaining", 64, 4)
    model.finalize()


def test_module_imports_no_torch_before_it_is_initialized() -> None:
    """Triton also imports it in a process that only completes the config, and waits for that."""
    code = (
        "import sys, types;"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('triton_python_backend_utils');"
        "import model;"
        "sys.exit(', '.join({'torch', 'diffusers', 'transformers'} & sys.modules.keys()) or None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=VERSION_FOLDER, check=False, capture_output=True)
    assert (ran.returncode, ran.stderr.strip()) == (0, b"")
