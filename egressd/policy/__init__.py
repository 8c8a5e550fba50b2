"""What egressd decides, as pure functions: nothing here opens, resolves or connects."""
