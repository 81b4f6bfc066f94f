"""Sources in, class shards out, and their reader."""
