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
    text = svg(figure, "a line")
    assert text == svg(figure, "a line")
    assert text.startswith("<svg")
    assert 'role="img" aria-label="a line"' in text
    assert "#000000" not in text.replace("var(--ink, #000000)", "")
    assert text.rstrip().endswith("</svg>")


def test_a_name_that_is_not_utf8_can_be_written() -> None:
    page = render("pipeline.tune.page", "page.html.jinja", title="\udcff<b>$_$", **EMPTY)
    assert "\ufffd&lt;b&gt;$_$" in page.encode().decode()


def test_pages_share_one_design_and_forbid_requests() -> None:
    page = render("pipeline.tune.page", "page.html.jinja", title="x", **EMPTY)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "default-src 'none'" in page
