"""Experiment trackers: what a run measures goes to MLflow or W&B, if ``report.loggers`` names them.

Each tracker's package runs in a process of its own, fed by a thread of the driver. So neither can hold up, interrupt or
end a run: a tracker that fails costs a line on the terminal, and is tried again later.
"""
