"""Figures of matplotlib as SVG elements in the colours and the font of the page, light or dark."""

import html
import io
import re
import warnings
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1a2b3c", "#5a6b7c", "#c9d2dd", "#fefefe"
ACCENT, WARM, BAD = "#2459a7", "#b3470f", "#b3202f"
VARIABLES = {
    "#000000": "ink",
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    PAPER: "paper",
    ACCENT: "accent",
    WARM: "warm",
    BAD: "bad",
}
"""Variables of page.css that replace the colours of a figure."""
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.axisbelow": True,
    "savefig.transparent": True,
}


def new_axes(width: float = 5.0, height: float = 3.0) -> "Axes":
    """Returns axes in a figure of their own, in inches; 5 inches fill half of a wide page, and a phone."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained").subplots()


def finish(axes: "Axes", *, grid: str = "y") -> None:
    """Adds a grid along an axis, and a legend if anything has a label, in the colours of the page."""
    axes.grid(axis=cast(Literal["both", "x", "y"], grid), color=LINE, linewidth=0.8)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, labelcolor=INK, loc="best")


def svg(figure: "Figure", alt: str) -> str:
    """Returns a figure as an ``<svg>`` element, without the XML header that a file would have.

    Its texts are drawn as they are: to matplotlib, a name with two dollar signs would be mathematics, often invalid.

    Args:
        figure: drawn in the colours of this module.
        alt: what the figure shows, for those who do not see it.
    """
    import matplotlib
    from matplotlib.text import Text

    for text in cast(list[Text], figure.findobj(Text)):
        text.set_parse_math(False)
    buffer = io.StringIO()
    # Names of clip paths follow from their content and the salt, so the same figure gives the same bytes.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": alt}), warnings.catch_warnings():
        # The font has no emoji, for instance, and measures a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    picture = buffer.getvalue()
    return _themed(picture[picture.index("<svg") :], alt)


def _themed(picture: str, alt: str) -> str:
    """The element with the page's colours and font, and a description instead of a size."""
    head, rest = picture.split(">", 1)
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    width = float(view[1]) * 4 / 3 if view else 640.0
    box = view[0] if view else ""
    label = html.escape(alt, quote=True)
    head = (
        f'<svg class="plot" role="img" aria-label="{label}" {box} style="max-width: {width:.0f}px" font-family="system-ui, sans-serif" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    rest = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", rest, flags=re.DOTALL)
    rest = re.sub(
        r"font-family: [^;\"]*;? ?|font: (?=[\d.]+px )",
        lambda found: "font-size: " if "font:" in found[0] else "",
        rest,
    )
    rest = re.sub(r"(?<=font-size: )([\d.]+px) '[^;\"]*", r"\1", rest)
    rest = re.sub(r' id="[\w.]+_\d+"', "", rest)  # several figures of a page have the same
    return f"{head}>{_colours(rest)}"


def _colours(rest: str) -> str:
    for colour, variable in VARIABLES.items():
        rest = rest.replace(colour, f"var(--{variable}, {colour})")  # the colour itself outside of a page
    return rest
