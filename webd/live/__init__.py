"""The dashboard's picture of the hive, kept true by one watch on each daemon, and the streams that carry it."""
