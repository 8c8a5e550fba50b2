"""Benchmarks, each beside its references in the same run. What is compared with what: bench/README.md."""
