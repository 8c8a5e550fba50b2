"""A NixOS host made up for tests: `host` makes one, the other modules are the programs that it holds."""
