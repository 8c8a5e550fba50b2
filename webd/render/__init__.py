"""What a browser is given before it runs anything: shells, their boot blocks, and static files from memory."""
