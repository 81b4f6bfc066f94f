"""``python -m pipeline``."""

from pipeline.cli.main import console

if __name__ == "__main__":
    console()
