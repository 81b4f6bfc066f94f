"""Makes the pages of small runs, and looks at them in Chromium: `python -m tests.pages [PAGE.html ...]`.

Without arguments: a run of the digits, one of a hundred classes, one of CIFAR-10 if M3D_DATA names a folder with cifar10
(Parquet), the page of a search and that of a comparison. Takes about five minutes. Pictures of every look are stored in
build/pages/pictures. Ends with exit code 1 if anything is wrong, and with 2 if a program is missing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.pages.make import make_pages

HERE = Path(__file__).parent
BUILD = Path("build/pages")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("playwright-core@1.56", "axe-core@4.11")
INSTALL_S, LOOK_S = 300, 900


def main(pages: list[str]) -> int:
    """Looks at the given pages, or at those that it makes. Returns the exit code."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    missing += [] if browser else [f"one of {', '.join(BROWSERS)}"]
    if browser is None or missing:
        print(
            f"tests.pages: {' and '.join(missing)} is missing; install it, such as with apt-get install chromium nodejs npm"
        )
        return 2
    pictures = BUILD / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    if not _has_packages() and _install() != 0:
        print(f"tests.pages: npm could not install {' and '.join(PACKAGES)}; it needs its registry once")
        return 2
    shown = [Path(page) for page in pages] or make_pages(BUILD)
    script = shutil.copy(HERE / "look.mjs", BUILD / "look.mjs")
    command = ["node", Path(script).name, browser, "pictures", *(str(page.resolve()) for page in shown)]
    return subprocess.run(command, cwd=BUILD, timeout=LOOK_S, check=False).returncode


def _has_packages() -> bool:
    return all((BUILD / "node_modules" / name.partition("@")[0]).exists() for name in PACKAGES)


def _install() -> int:
    (BUILD / "package.json").write_text('{"private": true}\n')
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", *PACKAGES]
    environment = {**os.environ, "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"}
    return subprocess.run(command, cwd=BUILD, env=environment, timeout=INSTALL_S, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
