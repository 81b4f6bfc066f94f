"""The command line: main, parser and commands."""
