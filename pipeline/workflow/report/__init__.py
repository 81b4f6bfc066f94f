"""The report of a run: grid.png, evolution.webp and report.html, one self-contained page; and the page of a comparison.

``contents`` collects what the page shows, each part in a module of its own; the template only arranges it.
"""

from pipeline.workflow.report.comparison import write_comparison
from pipeline.workflow.report.grid import grid_image
from pipeline.workflow.report.write import is_reported, report

__all__ = ["grid_image", "is_reported", "report", "write_comparison"]
