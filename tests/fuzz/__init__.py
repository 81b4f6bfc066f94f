"""Reads thousands of damaged and hostile files and checks how each ends: see ``python -m tests.fuzz --help``."""
