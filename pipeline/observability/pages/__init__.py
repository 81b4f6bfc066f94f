"""HTML pages that need no other file: one design (page.css, base.html.jinja) and templates rendered by Jinja.

Every page fits a phone, follows the light or dark colours of the system, and prints. A policy in its head forbids
requests, so that it shows nothing but what it contains. Names on a page come from data that nobody vouches for: Jinja
escapes them, and ``drawable`` removes what would turn or hide the text around them.
"""

import base64

from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape

from pipeline.observability.pages.figures import new_axes, svg

__all__ = ["data_url", "drawable", "new_axes", "render", "svg"]


def render(package: str, template: str, /, **values: object) -> str:
    """Returns a page as text. Values are escaped unless the template marks them as safe.

    Args:
        package: dotted name of the package that contains the template, such as ``pipeline.tune``.
        template: file name of the template in that package. It may extend ``base.html.jinja``.
        values: what the template refers to, by name.
    """
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader(__name__, ".")])
    environment = Environment(
        loader=loader, autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["drawable"] = drawable
    page = environment.get_template(template).render(values)
    return page.encode(errors="replace").decode()  # names that are not UTF-8 have halves of pairs, which no file has


def drawable(name: str, most: int = 18) -> str:
    """Returns a name for a picture: long ones shortened, each character that cannot be seen as one sign.

    Such characters end lines, control terminals or turn the direction of writing.
    """
    short = name if len(name) <= most else name[: most - 1] + "…"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in short)


def data_url(content: bytes, kind: str) -> str:
    """Returns the content as a URL that a page embeds; ``kind`` is its media type, such as ``image/webp``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
