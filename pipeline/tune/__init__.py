"""The search for settings, on Ray Tune."""
