"""The condense stage: Ray actors turn class shards into a committed condensed set."""
