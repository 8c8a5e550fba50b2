"""`hivectl up`: the whole hive as children of one process, for any Linux machine."""
