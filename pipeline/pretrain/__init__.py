"""Trains networks on the full training set, on Ray Train."""
