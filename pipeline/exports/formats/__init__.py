"""One file per format: each writes a set into a folder, and reads it again."""
