"""The documentation: its Python runs, its commands are accepted, its files and links exist, and its site is built."""
