"""The dashboard for Grafana."""

import json
import re

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
