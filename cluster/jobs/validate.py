"""Checks a command with the pipeline's own parser before anything is uploaded: a mistake need not wait for the cluster.

The pipeline is started as a program, as on the node; it is not imported. What only the cluster can know, such as whether
a path there exists, is left to the run.
"""

import re
import subprocess
import sys
from collections.abc import Sequence

from cluster.errors import ClusterError
from cluster.text import shown

CHECK = "import sys; from pipeline.cli.main import check; sys.exit(check(sys.argv[1:]))"
TIMEOUT_S = 60.0
"""Seconds that the check has; a slower one is given up, and the run checks again."""
REFUSED = 2
"""Exit code of a mistake in the call."""


def check(words: Sequence[str], root: str) -> None:
    """Raises ClusterError with the pipeline's own message if it would refuse the command.

    Args:
        words: of the command, the paths in it checked.
        root: folder of the packages that will be uploaded.
    """
    command = [sys.executable, "-c", CHECK, *words]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == REFUSED and lines:
        said = re.sub(r"^(python -m pipeline( [a-z-]+)?: )?error: ", "", lines[-1])
        raise ClusterError(f"{said} (found before the upload)" if len(said) < 1500 else shown(said, 1500))
