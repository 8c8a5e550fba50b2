"""What runs in a cage beside the agent CLI: it takes deliveries, drives turns, and is the agent's only way to the hive.

init.py spawner.py      PID 1, and the process that starts the CLI as the agent's user (stdlib only)
service.py turn.py      the life of the harness and the turn loop
claude/ demo/           one runner for each agent CLI
mcp/ bridge.py          the tools that the CLI sees, and its way to them
forwarder.py            the CLI's way out, to egressd
policy/                 what an end means, when to pause, what fits into a prompt (pure)
"""
