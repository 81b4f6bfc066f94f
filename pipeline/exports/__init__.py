"""``export`` and ``import``: condensed sets in the formats of other tools and projects, and back. No Ray here.

``formats`` has one file per format, ``registry`` lists them, ``export_set`` and ``import_set`` are the two commands.
"""
