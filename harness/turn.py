"""The turn loop: take a delivery, begin a turn, run the CLI, publish what happens, end the turn; for ever.

It never ends because a turn did. What ends is recorded by brokerd before the next delivery is taken; a brokerd that
is away is waited for. When the harness itself is killed in a turn, it does nothing about that at its next start:
attaching tells brokerd, and brokerd delivers again.
"""

from typing import Final

import trio

from harness.errands import Errands
from harness.latest import Latest
from harness.mcp.toolbox import OpenTurn, Toolbox
from harness.policy.budget import cut_chars
from harness.policy.outcomes import Stop
from harness.policy.parking import Pause, Streak, longer, pause_after
from harness.publisher import Publisher
from harness.runner import Report, Runner
from harness.stop import TurnStop
from harness.tally import Tally
from protocol.agent import (
    AnyCommand,
    BeginTurn,
    CancelTurn,
    Delivery,
    EndTurn,
    ExtendLease,
    ProveHealth,
    ReleaseDelivery,
    ReportHealth,
    ReportParked,
    SkipDelivery,
    TakeDelivery,
    TurnBegun,
    TurnClosed,
    Unpark,
)
from protocol.limits import DETAIL_CHARS_MAX, LEASE_MS, TURN_LABEL_CHARS_MAX, TURN_TEXT_CHARS_MAX
from protocol.problem import Problem, Refused
from protocol.turns import TurnEvent, Woken
from runtime.backoff import delays
from runtime.client import Client, Disconnected
from runtime.clock import now_ms
from runtime.log import Log
from runtime.stopping import Stopping

TAKE_WAIT_S: Final = 60
EXTEND_EVERY_S: Final = LEASE_MS / 1000 / 4
PATIENCE_S: Final = 30.0
"""After this long without brokerd a line is logged, and the waiting goes on."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
FINAL: Final = frozenset({Problem.CONFLICT, Problem.NOT_FOUND, Problem.DENIED, Problem.MALFORMED})
"""Refusals that asking again does not change."""
LAST_WORDS_S: Final = 5.0
"""How long a harness that is being stopped waits for brokerd to record the turn's end; without it, it comes again."""


class TurnLoop:
    """The turns of one agent, one at a time."""

    def __init__(
        self,
        broker: Client,
        runner: Runner,
        toolbox: Toolbox,
        errands: Errands,
        stopping: Stopping,
        log: Log,
    ) -> None:
        self._broker = broker
        self._runner = runner
        self._toolbox = toolbox
        self._errands = errands
        self._stopping = stopping
        self._log = log
        self._streak = Streak()
        self._pause: Pause | None = None
        self._unpark = trio.Event()
        self._health: Latest[ProveHealth] = Latest()
        self._open: tuple[int, TurnStop] | None = None
        self._grace_is_over = False
        self._waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        """Between deliveries that came to no turn; they grow until one does."""
        self._closing = trio.CancelScope()

    async def serve(self) -> None:
        """Drive turns until the harness is stopped; a running turn is ended by `stop_turn`."""
        while not self._stopping:
            if self._pause is not None:
                await self._wait_out(self._pause)
                continue
            delivery = await self._take()
            if delivery is not None and not await self._handled(delivery):
                with self._stopping.ends():
                    await trio.sleep(next(self._waits))

    def obey(self, command: AnyCommand) -> None:
        """Do what the operator wants."""
        match command:
            case CancelTurn(turn):
                if self._open is not None and self._open[0] == turn:
                    self._open[1].ask(Stop.OPERATOR)
            case Unpark():
                self._unpark.set()
            case ProveHealth():
                self._health.put(command)

    async def answer_health(self) -> None:
        """For ever: test what a turn needs when brokerd wants to know, and say what was found."""
        while True:
            asked = await self._health.taken()
            report = ReportHealth(
                asked.started_ms, cut_chars(await self._errands.self_test(), DETAIL_CHARS_MAX)
            )
            self._log.info("self-test", fault=report.fault)
            try:
                await self._broker.call(report, patience_s=PATIENCE_S)
            except (Disconnected, Refused) as fault:
                self._log.warning("brokerd did not take what the self-test found", error=str(fault))

    def stop_turn(self) -> None:
        """End the running turn, if any: the cage is being stopped and its grace is over."""
        self._grace_is_over = True
        self._closing.deadline = trio.current_time() + LAST_WORDS_S
        if self._open is not None:
            self._open[1].ask(Stop.SHUTDOWN)

    async def tell_parked(self) -> None:
        """Report again whether deliveries are taken: a brokerd that was restarted does not know."""
        pause = self._pause
        report = ReportParked(pause.reason, pause.detail, pause.until_ms) if pause else ReportParked()
        try:
            await self._broker.call(report, patience_s=PATIENCE_S)
        except (Disconnected, Refused) as fault:
            self._log.warning("brokerd did not take the report on pausing", error=str(fault))

    async def _take(self) -> Delivery | None:
        """Wait for a delivery; None when there is none yet, when brokerd is away, or at a stop."""
        with self._stopping.ends():
            try:
                return (await self._broker.call(TakeDelivery(TAKE_WAIT_S), patience_s=PATIENCE_S)).delivery
            except Disconnected as fault:
                self._log.warning("brokerd is away", error=str(fault))
            except Refused as refused:
                self._log.error("brokerd gives no delivery", refusal=str(refused))
                await trio.sleep(RETRY_MAX_S)
        return None

    async def _handled(self, delivery: Delivery) -> bool:
        """Do what a delivery is for. False when that did not come about: brokerd gives it again, after a while."""
        if delivery.only_if is not None:
            checked = None
            # Far shorter than the lease, which needs no extending meanwhile.
            with self._stopping.ends():
                checked = await self._errands.only_if(delivery.only_if)
            if checked is not None and not checked.passed:
                return await self._skip(delivery, checked.detail)
        if self._stopping:
            return await self._give_back(delivery, "the harness is being stopped")
        return await self._drive(delivery)

    async def _give_back(self, delivery: Delivery, reason: str) -> bool:
        """Return a delivery that drives no turn now."""
        try:
            await self._broker.call(ReleaseDelivery(delivery.id, delivery.token, reason))
        except (Disconnected, Refused) as fault:
            self._log.warning("the delivery was not given back; its lease runs out", error=str(fault))
        return False

    async def _skip(self, delivery: Delivery, detail: str) -> bool:
        """End a delivery that is not worth a turn just now."""
        self._log.info("a reminder was skipped", delivery=delivery.id, detail=detail)
        try:
            await self._broker.call(
                SkipDelivery(delivery.id, delivery.token, cut_chars(detail, DETAIL_CHARS_MAX)),
                patience_s=PATIENCE_S,
            )
        except (Disconnected, Refused) as fault:
            self._log.warning("the delivery was not skipped; it comes again", error=str(fault))
            return False
        return True

    async def _drive(self, delivery: Delivery) -> bool:
        """One turn, from its beginning on disk to its end on disk; False when it did not begin."""
        try:
            begun = await self._broker.call(BeginTurn(delivery.id, delivery.token), patience_s=PATIENCE_S)
        except Disconnected as fault:
            self._log.warning("the turn did not begin; the delivery comes again", error=str(fault))
            return False
        except Refused as refused:
            self._log.warning("the turn did not begin; the delivery comes again", refusal=str(refused))
            return await self._give_back(delivery, "its turn did not begin")
        self._waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        stop = TurnStop()
        self._open = (begun.turn, stop)
        try:
            report = await self._run(begun, delivery, stop)
        finally:
            self._open = None
        self._log.info(
            "turn ended", turn=begun.turn, outcome=report.verdict.outcome, detail=report.verdict.detail
        )
        self._streak = longer(self._streak, report.verdict.outcome)
        self._pause = pause_after(report.verdict, self._streak, now_ms())
        if self._pause is not None:
            self._unpark = trio.Event()
            await self.tell_parked()
        return True

    async def _run(self, begun: TurnBegun, delivery: Delivery, stop: TurnStop) -> Report:
        """Run the CLI for a turn that has begun, its events and its lease beside it, and record the end."""
        turn, message = begun.turn, delivery.message
        publisher, tally = Publisher(self._broker, turn, now_ms, self._log), Tally()
        sender = cut_chars(message.sender, TURN_LABEL_CHARS_MAX)
        publisher.emit(Woken(0, now_ms(), message.id, sender, cut_chars(message.body, TURN_TEXT_CHARS_MAX)))

        def emit(event: TurnEvent) -> None:
            tally.take(event)
            publisher.emit(event)

        async with trio.open_nursery() as beside:
            beside.start_soon(publisher.run)
            beside.start_soon(self._keep_lease, delivery, stop)
            if self._grace_is_over:
                stop.ask(Stop.SHUTDOWN)
            self._toolbox.turn = OpenTurn(turn, delivery.id, publisher.emit)
            try:
                report = await self._runner.run(delivery, emit, stop, begun.model)
            finally:
                self._toolbox.turn = None  # what the agent left running speaks for it no longer
            await self._close(await self._ending(turn, report, tally), publisher)
            beside.cancel_scope.cancel()
        return report

    async def _ending(self, turn: int, report: Report, tally: Tally) -> EndTurn:
        verdict = report.verdict
        return EndTurn(
            turn,
            verdict.outcome,
            verdict.detail,
            report.usage,
            report.conversation,
            verdict.until_ms,
            tally.counts(),
            await self._errands.notes_bytes(),
        )

    async def _close(self, ending: EndTurn, publisher: Publisher) -> None:
        """Have brokerd take the last events and the outcome, however long it is away; only a stop ends the waiting."""
        with trio.CancelScope() as self._closing:
            if self._grace_is_over:
                self._closing.deadline = trio.current_time() + LAST_WORDS_S
            await publisher.flush()
            await self._end(ending)
        if self._closing.cancelled_caught:
            self._log.error("stopped before brokerd took the turn's end; it delivers again", turn=ending.turn)

    async def _end(self, ending: EndTurn) -> TurnClosed | None:
        """Record the outcome; asked again until brokerd takes it. None when the turn is no longer ours."""
        turn = ending.turn
        waits = delays(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            try:
                return await self._broker.call(ending, patience_s=PATIENCE_S)
            except Disconnected as fault:
                self._log.warning("the turn's end waits for brokerd", turn=turn, error=str(fault))
            except Refused as refused:
                if refused.problem in FINAL:
                    self._log.error("brokerd does not take the turn's end", turn=turn, refusal=str(refused))
                    return None
                self._log.warning(
                    "brokerd could not take the turn's end yet", turn=turn, refusal=str(refused)
                )
            await trio.sleep(next(waits))

    async def _keep_lease(self, delivery: Delivery, stop: TurnStop) -> None:
        """Extend the lease while the turn runs; a lost one ends the turn, since somebody else may have it."""
        while True:
            await trio.sleep(EXTEND_EVERY_S)
            try:
                await self._broker.call(ExtendLease(delivery.id, delivery.token), patience_s=PATIENCE_S)
            except Disconnected as fault:
                self._log.warning("the lease could not be extended", delivery=delivery.id, error=str(fault))
            except Refused as refused:
                self._log.error("the lease was not extended", delivery=delivery.id, refusal=str(refused))
                if refused.problem in FINAL:
                    stop.ask(Stop.LEASE_LOST)
                    return

    async def _wait_out(self, pause: Pause) -> None:
        """Take no delivery until the pause is over, the operator says so, or the harness is stopped."""
        left_s = float("inf") if pause.until_ms is None else max(0.0, (pause.until_ms - now_ms()) / 1000)
        self._log.info(
            "no delivery is taken for now", reason=pause.reason, seconds=left_s, detail=pause.detail
        )
        with self._stopping.ends(), trio.move_on_after(left_s):
            await self._unpark.wait()
        self._pause = None
        if not self._stopping:
            await self.tell_parked()
