"""The way out of a cage: connections to the hosts an agent's settings allow."""
