"""Tests, folder for folder beside the packages; `whole` runs real processes, `house` minds the repository."""
