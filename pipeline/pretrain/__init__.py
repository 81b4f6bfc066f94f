"""Trains networks on the complete training set, on Ray Train."""
