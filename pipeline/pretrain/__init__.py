"""Networks trained on the whole training set, on Ray Train."""
