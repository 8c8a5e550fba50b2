"""What may be asked of egressd, what does it, and who may ask."""

from typing import Final

from egressd import news
from protocol.egressd import WatchEgress
from protocol.hello import Hello
from protocol.rpc import Role

OPERATOR, BROKER = Role.OPERATOR, Role.BROKER

ROUTES: Final = (
    Hello.answered_by(news.hello, callers=OPERATOR | BROKER),
    WatchEgress.answered_by(news.watch, callers=BROKER),
)
