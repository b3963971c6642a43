# SPDX-License-Identifier: Apache-2.0
"""All metrics and labels in the dashboard and the alerts occur in a real scrape."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import yaml

from support.paths import ROOT
from support.prometheus_scrape import Scrape, parsed
from support.scribble_app import base64_picture
from support.serving import Server

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
PROMETHEUS = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())

# Not tested, since the tests run without a GPU; the names are from Triton's documentation.
OF_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
# The metric and the labels that Prometheus adds.
OF_PROMETHEUS = {"up"}
ADDED_LABELS = {"instance", "job", "le", "gpu_uuid"}
# Appears only after a failed inference; none fails in this test.
RARE = {"nv_inference_request_failure": {"model", "reason", "version"}}

METRIC = re.compile(r"\b(?:fastapi_triton|nv|sdxl_engine|process)_\w+|\bup\b")
SELECTOR = re.compile(r"\b(\w+)\{([^}]*)\}")
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel["panels"] if panel["type"] == "row" else ()


def expressions() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    found += [variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    return found + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def names(expression: str) -> set[str]:
    return set(METRIC.findall(re.sub(r"\{[^}]*\}|by \([^)]*\)|\"[^\"]*\"", "", expression)))


def labels(expression: str) -> set[str]:
    used = {each.strip() for group in GROUPING.findall(expression) for each in group.split(",")}
    for _, matchers in SELECTOR.findall(expression):
        used |= set(re.findall(r"(\w+)\s*[=!]", matchers))
    return used - ADDED_LABELS


@pytest.fixture
def scrape(scribble_server: Server) -> Scrape:
    """A scrape of frontend and Triton after a picture and an invalid request."""
    body = {"prompt": "a house", "image": base64_picture(size=(64, 64)), "num_inference_steps": 1}
    assert scribble_server.post("/sdxl/scribble-controlnet/infer", json=body).status_code == 200
    assert scribble_server.post("/sdxl/scribble-controlnet/infer", json={}).status_code == 422
    address = scribble_server.wait_for(r"Started Metrics Service at ([\d.:]+)")[1]
    urls = [f"{scribble_server.url}/metrics", f"http://{address}/metrics"]
    samples = [parsed(httpx2.get(url).text).samples for url in urls]
    return Scrape(samples[0] | samples[1])


@pytest.mark.integration
def test_every_metric_and_label_occurs_in_a_scrape(scrape: Scrape) -> None:
    for expression in expressions():
        found = names(expression)
        assert found, expression
        own = found - OF_GPUS - OF_PROMETHEUS
        assert own <= scrape.names | RARE.keys(), expression
        has = {label for (name, labels_of_it), _ in scrape.samples.items() if name in own for label, _ in labels_of_it}
        has |= {label for name in own & RARE.keys() for label in RARE[name]}
        assert labels(expression) <= has or not own, expression


def test_the_dashboard_is_valid() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["uid"]
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert {"h", "w", "x", "y"} == panel["gridPos"].keys()
        if panel["type"] != "row":
            assert panel["targets"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    boxes = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(boxes) == len(set(boxes))


def test_prometheus_scrapes_frontend_and_triton_of_compose() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]}
    assert targets == {"frontend": ["frontend:8080"], "triton": ["triton:8002"]}
    assert services.keys() >= targets.keys()
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    assert all(rule["annotations"]["summary"] for group in ALERTS["groups"] for rule in group["rules"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian's package prometheus)")
def test_promtool_accepts_the_files() -> None:
    subprocess.run(["promtool", "check", "config", str(MONITORING / "prometheus.yml")], check=True)
