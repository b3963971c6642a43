# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's perf_analyzer measures the public model: plain requests, batches, strings from a JSON file."""

import base64
import json
import re
import time
from pathlib import Path

import pytest

from support.paths import ROOT
from support.perf_analyzer import PerfAnalyzer
from support.scribble_app import MODEL
from support.serving import Server

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("batch_size", [1, 4])
def test_perf_analyzer_measures_the_public_model(
    perf_analyzer: PerfAnalyzer, scribble_server: Server, tmp_path: Path, batch_size: int
) -> None:
    house = base64.b64encode((ROOT / "demo" / "examples" / "house.png").read_bytes()).decode()
    request = {"prompt": ["a red house"], "image": [house], "conditioning_scale": [1.0], "num_inference_steps": [1]}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [request]}))
    series = f'nv_inference_count{{model="{MODEL}",version="1"}}'
    before = scribble_server.counted(series)
    report = perf_analyzer.run(
        *("-m", MODEL, "-u", scribble_server.triton_url, "-i", "http", "-b", str(batch_size)),
        *("--input-data", str(data), "--request-count", "4", "--concurrency-range", "2"),
    )
    assert re.search(r"Request count: 4\b", report), report
    # Not the report's own "Inference count": Triton may update that statistic after it has responded.
    while scribble_server.counted(series) < before + 4 * batch_size:
        time.sleep(0.02)
