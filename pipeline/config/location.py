"""The type of settings that contain a path, so that nobody else has to list them."""

from typing import Annotated

LOCATION = "location"
"""Mark of the type."""
Location = Annotated[str, LOCATION]
"""A path or a URL. A job on a cluster runs in a folder of its own, so ``python -m cluster submit`` refuses relative ones."""
