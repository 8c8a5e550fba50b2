"""Servers that the benchmarks start: ours where one request alone is of interest, and the references."""
