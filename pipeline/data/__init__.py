"""Prepares class shards from sources of images, and reads them."""
