"""The hive as the agent CLI sees it: one MCP server on a unix socket inside the harness process.

tools.py      what the tools are called and take, derived from protocol's request structs
toolbox.py    what a call does: ask brokerd, answer with small JSON
listener.py   who may connect
server.py     the protocol itself, by the official `mcp` package (imported at the first connection: it is large)
"""
