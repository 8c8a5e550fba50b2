"""What brokerd holds in memory between requests: watchers, inboxes, leases, harnesses. All of it may be lost."""
