"""Class shards in, a committed condensed set out, on Ray actors."""
