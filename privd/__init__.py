"""The root daemon: cages and, later, root-owned repositories."""
