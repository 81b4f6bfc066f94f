"""How the files of a source are laid out: the words that name a split, and folders of splits and classes."""
