"""Pages: templates of a package, and figures as SVG elements."""

import pytest
from jinja2 import TemplateNotFound
from matplotlib.figure import Figure

from pipeline.observability.pages import render, svg

EMPTY = {
    "trials": [],
    "counts": {"finished": 0, "stopped": 0, "failed": 0},
    "measured": {
        "evaluate": {"seeds": 2, "epochs": 3, "architectures": ["mlp"]},
        "data": {"validation_fraction": 0.1},
    },
    "rungs": [10],
    "winner": [],
}
"""Values for a search without a trial."""


def test_values_are_escaped_in_the_template_of_a_package() -> None:
    page = render("pipeline.tune.page", "page.html.jinja", title="<digits>", **EMPTY)
    assert "<title>Search: &lt;digits&gt;</title>" in page


def test_an_unknown_template_raises() -> None:
    with pytest.raises(TemplateNotFound):
        render("pipeline.tune.page", "absent.html.jinja")


def test_a_figure_becomes_one_element_without_a_header() -> None:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1], [0, 1])
    text = svg(figure)
    assert text.startswith("<svg")
    assert text.rstrip().endswith("</svg>")
