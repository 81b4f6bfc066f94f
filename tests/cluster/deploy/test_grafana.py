"""The dashboard for Grafana, and the alerts for Prometheus."""

import json
import re

import yaml

from pipeline.observability.prometheus import NAMES
from tests.cluster.conftest import ROOT


def test_the_dashboard_shows_the_metrics_that_there_are() -> None:
    dashboard = json.loads((ROOT / "cluster" / "deploy" / "grafana.json").read_text())
    text = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    exported = {f"ray_{name}" + ("_total" if name == "m3d_retries" else "") for name in NAMES}
    assert set(re.findall(r"ray_m3d_\w+", text)) == exported
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(cells)) == len(cells)
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "run"}
    assert all(len(panel["description"]) > 20 for panel in dashboard["panels"])


def test_the_alerts_are_about_metrics_that_there_are() -> None:
    document = yaml.safe_load((ROOT / "cluster" / "deploy" / "alerts.yaml").read_text())
    (group,) = document["groups"]
    exported = {f"ray_{name}" + ("_total" if name == "m3d_retries" else "") for name in NAMES}
    for rule in group["rules"]:
        assert set(re.findall(r"ray_m3d_\w+", rule["expr"])) <= exported
        assert rule["labels"]["severity"] == "warning"
        assert "{{ $labels." in rule["annotations"]["summary"]
    assert {rule["alert"] for rule in group["rules"]} == {"M3dStageStuck", "M3dCheckpointOld", "M3dActorsLost"}
