"""Formats of the files that stages leave each other. No Ray here."""
