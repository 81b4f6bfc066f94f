"""Runs of the pipeline as Ray jobs: submit and follow them, and start clusters on this machine and elsewhere.

``python -m cluster`` passes your ``python -m pipeline`` command line through; it imports nothing of the pipeline.
"""

DISTRIBUTION = "m3d-condense"
"""The project that this package belongs to; there are others of its name."""
