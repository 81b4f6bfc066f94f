"""The packages that this project is installed with: ``constraints.txt``, and the audit of what it pins."""
