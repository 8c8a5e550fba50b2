"""What privd decides, as pure functions: no file, no process, no clock."""
