"""The pages of the documentation, and the code in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README, CHANGELOG = ROOT / "README.md", ROOT / "CHANGELOG.md"
PAGES = [
    *(README, CHANGELOG, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "examples" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCED = re.compile(r"^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Line of the page on which the block's text begins."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def code_blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, or those of one language."""
    whole = page.read_text()
    found = [
        Block(
            page=page,
            line=whole[: match.start()].count("\n") + 2,
            language=match["language"],
            text=match["text"],
        )
        for match in FENCED.finditer(whole)
    ]
    return [block for block in found if language is None or block.language == language]


def name_of(page: Path) -> str:
    """The path of a page in the project."""
    return str(page.relative_to(ROOT))


def all_blocks(language: str) -> list[Block]:
    """The blocks of a language on all pages."""
    return [block for page in PAGES for block in code_blocks(page, language)]


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return INLINE.findall(FENCED.sub("", page.read_text()))


def section(page: Path, title: str) -> str:
    """The text below a heading of the second level."""
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
