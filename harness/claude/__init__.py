"""The runner for Claude Code: its command line, its lines of JSON, its conversation."""
