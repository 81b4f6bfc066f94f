"""Files of this machine: by the operating system alone, only regular ones, and under temporary names that say whose they are."""
