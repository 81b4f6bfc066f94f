"""Formats of condensed sets, of a run's folder and of other projects' files. No Ray here."""
