"""HTTP/1.1 on trio: one port, one connection at a time, every wait with a deadline. Knows no page and no session."""
