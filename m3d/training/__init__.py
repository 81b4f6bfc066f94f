"""Networks trained on images: evaluations of a condensed set, and trajectories on the full training set."""
