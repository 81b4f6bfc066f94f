"""The log of an actor: one JSON object a line, with the run and the group, in the file that Ray's dashboard shows."""

import json
import sys
import time
from typing import Any


class RunLog:
    """Writes to stderr, which Ray keeps per process."""

    def __init__(self, run: str) -> None:
        self.run = run

    def event(self, group: int | None, event: dict[str, Any]) -> None:
        """One event; of the losses only their mean."""
        told = {key: value for key, value in event.items() if key != "losses"}
        entry = {"time": round(time.time(), 3), "run": self.run, "group": group, **told}
        for _, losses, rate in event.get("losses", ())[-1:]:
            entry |= {"loss": round(sum(losses) / len(losses), 6), "images_per_s": rate}
        print(json.dumps(entry), file=sys.stderr, flush=True)
