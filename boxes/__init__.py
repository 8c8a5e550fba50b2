"""Programs that read what an agent made, each in a box of its own: one input, no network, nothing to keep.

privd (`privd/boxes.py`) makes the box and starts it; nothing here ever runs as root. Standard library, and what a
program needs that its box is told to show it.

    confine.py         limits and the system call filter, put on before any input is read
    system_calls.py    the few system calls that are left
    reply.py           what a box says: frames, a refusal, an end
    beneath.py         opening what lies below a folder, with every link refused by the kernel
    state.py           one agent's own files: list, read, measure
    difference.py      what changed between the files of two configurations
    worktree.py        an ordinary work tree of a configuration, made where it is to be edited; the one that writes
    repository*.py     one commit of a proposed repository: its objects, loose or out of packs
"""
