"""The dashboard for Grafana."""

import json
import re

from pipeline.observability.prometheus import NAMES
from tests.cluster.conftest import ROOT


def test_the_dashboard_shows_the_metrics_that_there_are() -> None:
    found = json.loads((ROOT / "cluster" / "deploy" / "grafana.json").read_text())
    text = " ".join(target["expr"] for panel in found["panels"] for target in panel["targets"])
    exported = {f"ray_{name}" + ("_total" if name == "m3d_retries" else "") for name in NAMES}
    assert set(re.findall(r"ray_m3d_\w+", text)) == exported
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    cells = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in found["panels"]]
    assert len(set(cells)) == len(cells)
    assert {one["name"] for one in found["templating"]["list"]} == {"datasource", "run"}
