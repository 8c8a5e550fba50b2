"""Reminders: setting, listing, changing and firing them; a delivery of one that its `only_if` ends."""

from brokerd.handlers.deliveries import agent_of
from brokerd.host import Host
from brokerd.policy.bodies import check_body
from brokerd.policy.pages import fitting
from brokerd.policy.reminders import check_cancel, check_condition, listed, reminded
from brokerd.policy.schedules import Wish
from brokerd.store import deliveries, firing, keys, occurrences, reminders
from brokerd.store.reminders import NewReminder
from protocol.agent import SkipDelivery
from protocol.brokerd import EditReminder, FireReminder
from protocol.limits import INTEGER_MAX, PAGE_BYTES_MAX
from protocol.problem import Problem, Refused
from protocol.reminders import Reminder, ReminderRollup
from protocol.rpc import Caller
from protocol.tools import CancelReminder, ListReminders, Remind, ReminderPage, RollUpReminders


async def remind(request: Remind, caller: Caller, host: Host) -> Reminder:
    """Set a reminder. A used key gets its first answer, whatever changed since."""
    sender = host.roster.sender(caller)
    asked, digest = keys.Asked(sender.name, bytes.fromhex(request.key)), keys.digest_of(request)
    first = host.store.look(reminders.find_set, asked, digest)
    if first is not None:
        return first
    check_body(request.text)
    agent = reminded(sender, request.agent, host.roster.roles)
    check_condition(sender, agent, host.roster.of(agent).settings.allowed_commands, request.only_if)
    wish = Wish(request.in_s, request.at, request.every_s, request.cron, request.zone)
    new = NewReminder(asked, digest, agent, request.text, wish, _command(request.only_if))
    host.room.admit(len(request.text))
    costs = host.rates.remind(sender.name)
    try:
        reminder = await host.feed.write_new(reminders.set_reminder, new, host.scheduler.wall())
    except Refused:
        host.rates.give_back(costs)
        raise
    host.scheduler.mind(reminder)
    return reminder


def _command(only_if: str | None) -> str | None:
    if only_if is not None:
        check_body(only_if)
    return only_if


async def list_reminders(request: ListReminders, caller: Caller, host: Host) -> ReminderPage:
    """Those that are still to fire by their time, then the ended ones if they are asked for."""
    agent = listed(host.roster.sender(caller), request.agent)
    shown: list[Reminder] = []
    if request.before is None:
        found = await host.store.read(reminders.active, agent, request.after, request.limit + 1)
        _tell(found.faults, host)
        shown = list(fitting(found.reminders[: request.limit], PAGE_BYTES_MAX))
        if len(shown) < len(found.reminders):
            return ReminderPage(tuple(shown), after=shown[-1].id)
        if not request.ended:
            return ReminderPage(tuple(shown))
    start = INTEGER_MAX if request.before is None else request.before
    left = request.limit - len(shown)
    if left == 0:
        return ReminderPage(tuple(shown), before=start)
    over = await host.store.read(reminders.over, agent, start, left + 1)
    _tell(over.faults, host)
    ended = list(fitting(over.reminders[:left], PAGE_BYTES_MAX))
    before = ended[-1].id if len(ended) < len(over.reminders) else None
    return ReminderPage((*shown, *ended), before=before)


def _tell(faults: list[str], host: Host) -> None:
    for fault in faults:
        host.log.error("a reminder cannot be read", fault=fault)


async def cancel(request: CancelReminder, caller: Caller, host: Host) -> Reminder:
    check_cancel(host.roster.sender(caller), host.store.look(reminders.read, request.reminder))
    return await host.feed.write(reminders.cancel, request.reminder)


async def edit(request: EditReminder, caller: Caller, host: Host) -> Reminder:
    if request.text is not None:
        check_body(request.text)
    _command(request.only_if)
    host.room.admit(len(request.text or ""))
    reminder = await host.feed.write_new(reminders.edit, request, host.scheduler.wall())
    host.scheduler.mind(reminder)
    return reminder


async def fire(request: FireReminder, caller: Caller, host: Host) -> Reminder:
    return await host.feed.write_new(firing.fire_now, request.reminder, host.scheduler.wall())


async def roll_up(request: RollUpReminders, caller: Caller, host: Host) -> ReminderRollup:
    agent = listed(host.roster.sender(caller), request.agent)
    since_ms = max(0, host.scheduler.wall() - request.since_s * 1000)
    return await host.store.read(occurrences.roll_up, agent, since_ms)


async def skip(request: SkipDelivery, caller: Caller, host: Host) -> None:
    """End a leased delivery of a reminder, because its `only_if` said no. Nothing is proven by a repeat, nor done."""
    agent = agent_of(caller)
    lease = host.leases.of(agent)
    if lease is not None and lease.delivery == request.delivery:
        lease = host.leases.proven(agent, request.delivery, request.token)
        if lease.turn is not None or lease.is_beginning:
            raise Refused(Problem.CONFLICT, f"a turn runs for delivery {request.delivery}: end it instead")
        lease.is_beginning = True
    try:
        await host.feed.write(deliveries.skip, request.delivery, agent, is_leased=lease is not None)
    finally:
        if lease is not None:
            lease.is_beginning = False
    host.leases.settled(agent, request.delivery)
    host.log.info("reminder skipped", agent=agent, delivery=request.delivery, detail=request.detail)
