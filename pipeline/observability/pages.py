"""HTML pages that need no other file: templates rendered by Jinja, and figures embedded as SVG."""

import io
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, select_autoescape

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(package: str, template: str, /, **values: object) -> str:
    """Returns a page as text. Values are escaped unless the template marks them as safe.

    Args:
        package: dotted name of the package that contains the template, such as ``pipeline.tune``.
        template: file name of the template in that package.
        values: what the template refers to, by name.
    """
    environment = Environment(loader=PackageLoader(package, "."), autoescape=select_autoescape(default=True))
    return environment.get_template(template).render(values)


def svg(figure: "Figure") -> str:
    """Returns a figure as an ``<svg>`` element, without the XML header that a file would have."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]
