"""The demo: a small agent CLI of our own for machines without a model account, and its runner.

It is started, fed, read and stopped as the real one is: by the spawner, as the agent's user, with the wake prompt on
its standard input, speaking MCP through the same bridge and printing the same kind of lines. No model is behind it.

    __main__.py   the CLI (standard library and harness.wake)
    mind.py       what it does with what wakes it (pure)
    words.py      the words that it understands (pure)
    actions.py    what it can do
    memory.py     whom it owes what, its notes and profile
    client.py     its side of MCP
    runner.py     how the harness runs it
"""
