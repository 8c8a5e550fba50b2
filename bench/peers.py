"""Every broker that ours is compared with, started: what is not to be had is left out, and said."""

from contextlib import ExitStack
from pathlib import Path

from bench import nats, plain, postgres, rabbitmq, redis
from bench.ways import RedisStreams, Way


def start(servers: ExitStack, run: Path, state: Path, pairs: int, *, slow: bool = False) -> list[Way]:
    """The ways of all peers, each with its own folder below `state`; with `slow`, also the five-second poll."""
    ways: list[Way] = []
    if found := redis.start(servers, run, _folder(state, "redis")):
        ways.append(RedisStreams(found))
    started = (
        nats.start(servers, run, _folder(state, "nats")),
        rabbitmq.start(servers, run, _folder(state, "rabbitmq")),
        postgres.start(servers, run, _folder(state, "postgres"), pairs),
        plain.start(servers, run, _folder(state, "plain")),
    )
    ways += [way for way in started if way is not None]
    if slow:
        ways.append(plain.start_polled(servers, run, _folder(state, "polled")))
    return ways


def _folder(state: Path, name: str) -> Path:
    folder = state / name
    folder.mkdir()
    return folder
