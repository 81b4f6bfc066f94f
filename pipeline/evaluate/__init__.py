"""Accuracy: networks trained on condensed sets and on their baselines."""
