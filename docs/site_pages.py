"""Adds pages and files outside of docs/ to the site, and rewrites the links to them. MkDocs calls it (``hooks`` in mkdocs.yml).

Pages are written for readers of the repository: README.md links to ``docs/data.md``, and a page in docs/ to
``../CONTRIBUTING.md``. On the site all pages lie in one folder.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
"""Pages outside of docs/, and their names on the site."""
FILES = ("LICENSE", "CITATION.cff", "examples/*")
"""Files outside of docs/ that pages link to. They keep their paths on the site."""
LINK = re.compile(r"""(?P<before>\]\(|\b(?:src|srcset|href)=")(?P<path>[^)"#\s]+)""")
"""The path in a link of Markdown, or in an attribute of HTML."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and files outside of docs/."""
    others = {
        path: path for pattern in FILES for path in map(relative, sorted(ROOT.glob(pattern))) if path not in PAGES
    }
    for path, name in {**PAGES, **others}.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page, with the links of the site."""
    origins = {name: path for path, name in PAGES.items()}
    origin = origins.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: link["before"] + site_path(link["path"], posixpath.dirname(origin)), markdown)


def site_path(target: str, folder: str) -> str:
    """Where a link in a page of a folder leads on the site. Links to what the site does not have stay as they are.

    Args:
        target: A path as the page has it, or a URL.
        folder: The page's folder in the repository, such as "docs"; "" for the root.
    """
    if "://" in target or target.startswith("mailto:"):
        return target
    path = posixpath.normpath(posixpath.join(folder, target))
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if is_file(path) and any(Path(path).match(pattern) for pattern in FILES) else target


def relative(path: Path) -> str:
    """A path below the project's folder, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def is_file(path: str) -> bool:
    """Whether the project has this file."""
    return (ROOT / path).is_file()
