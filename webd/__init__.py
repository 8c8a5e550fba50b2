"""The dashboard: what the operator's browser talks to."""
