"""What a page keeps of its stream: rows, messages, turns and lines, and whether any came twice or not at all."""

from dataclasses import dataclass, field
from typing import Any

from tests.webd.support.browser import Frame


@dataclass
class Page:
    """Filled by frames, in order. What a snapshot repeats is not a double; what follows it must be new."""

    cursor: str = ""
    hive: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, Any] = field(default_factory=dict)
    flow: dict[int, Any] = field(default_factory=dict)
    turns: dict[int, Any] = field(default_factory=dict)
    events: dict[tuple[int, int], Any] = field(default_factory=dict)
    lines: dict[int, Any] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)
    doubles: list[Any] = field(default_factory=list)
    byes: list[str] = field(default_factory=list)

    def take(self, frame: Frame) -> None:
        self.cursor = frame.id
        match frame.event.partition(":")[0]:
            case "snapshot":
                self._snapshot(frame.data)
            case "hive":
                self.hive = frame.data["d"]
            case "agents":
                if frame.data["d"] is None:
                    self.agents.pop(frame.data["k"], None)
                else:
                    self.agents[frame.data["k"]] = frame.data["d"]
            case "flow":
                self.flow[frame.data["d"]["id"]] = frame.data["d"]
            case "tail":
                self._tail(frame.data["d"])
            case "journal":
                self._line(frame.data["d"])
            case "bye":
                self.byes.append(frame.data["reason"])

    def _snapshot(self, said: Any) -> None:
        self.snapshots.append(said["why"])
        topics = said["topics"]
        self.hive = topics.get("hive", {}).get("hive", {})
        self.agents = topics.get("agents", {})
        self.flow |= {message["id"]: message for message in topics.get("flow", [])}
        for name, rows in topics.items():
            if name.startswith("tail:"):
                self.turns |= {turn["id"]: turn for turn in rows["turns"]}
                self.events |= {(event["turn"], event["n"]): event for event in rows["events"]}
            elif name.startswith("journal:"):
                self.lines |= {line["offset"]: line for line in rows}

    def _tail(self, told: Any) -> None:
        if "turn" in told:
            self.turns[told["turn"]["id"]] = told["turn"]
            return
        place = (told["event"]["turn"], told["event"]["n"])
        if place in self.events:
            self.doubles.append(place)
        self.events[place] = told["event"]

    def _line(self, line: Any) -> None:
        if line["offset"] in self.lines:
            self.doubles.append(line)
        self.lines[line["offset"]] = line

    def states(self) -> dict[int, list[str]]:
        """Where the deliveries of each message stand."""
        return {
            number: [delivery["state"] for delivery in message["deliveries"]]
            for number, message in sorted(self.flow.items())
        }

    def texts(self, turn: int) -> list[str]:
        """What was said in a turn; holes show as missing numbers."""
        numbers = sorted(n for of, n in self.events if of == turn)
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        return [self.events[turn, n]["text"] for n in numbers]
