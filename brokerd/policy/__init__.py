"""What brokerd decides, as pure functions: nothing here stores, waits or listens."""
