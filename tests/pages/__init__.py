"""Looks at the HTML pages in a browser: `python -m tests.pages`. Not part of pytest; needs chromium, node and npm."""
