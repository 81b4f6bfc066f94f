"""tune.html: the result of a search in one file, its plots drawn by matplotlib as SVG.

Optuna's own plots were compared. They mark neither the winner nor the given configuration, show no stopped and failed
trials and no standard errors, and change matplotlib's global style.
"""

from pipeline.tune.page.write import write_page

__all__ = ["write_page"]
