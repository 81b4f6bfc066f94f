"""Networks trained on images: the evaluation of a condensed set, and trajectories on the whole set."""
