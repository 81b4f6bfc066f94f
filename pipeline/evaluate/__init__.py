"""Accuracy of networks that are trained on condensed sets and on their baselines."""
