"""HTML pages that need no other file: templates rendered by Jinja, and figures embedded as SVG.

Names on a page come from data that nobody vouches for. Jinja escapes them in the text, ``svg`` draws them as they are.
"""

import io
import warnings
from typing import TYPE_CHECKING, cast

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
    page = environment.get_template(template).render(values)
    return page.encode(errors="replace").decode()  # names that are not UTF-8 have halves of pairs, which no file has


def drawable(name: str, most: int = 18) -> str:
    """Returns a name for a picture: long ones shortened, each character that cannot be seen as one sign.

    Such characters end lines, control terminals or turn the direction of writing.
    """
    short = name if len(name) <= most else name[: most - 1] + "…"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in short)


def svg(figure: "Figure") -> str:
    """Returns a figure as an ``<svg>`` element, without the XML header that a file would have.

    Its texts are drawn as they are: to matplotlib, a name with two dollar signs would be mathematics, often invalid.
    """
    import matplotlib
    from matplotlib.text import Text

    for text in cast(list[Text], figure.findobj(Text)):
        text.set_parse_math(False)
    buffer = io.StringIO()
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        # The font has no emoji, for instance, and draws a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="svg")
    picture = buffer.getvalue()
    return picture[picture.index("<svg") :]
