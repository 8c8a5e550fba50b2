"""How any process of the hive lives: its service, sockets, sessions, clients, store, settings and log.

Knows nothing of cages, messages or pages; those live in the daemons, which stand side by side on this package.
"""

from typing import Final

VERSION: Final = "0.1.0"
