"""ansible-runner's events, read as they come: progress for people, and what became of each host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from provisioner.fleet.base import Frozen
from provisioner.history.events import Event, OnEvent

LAST_TASK = "Applied"
"""the last task of site.yml"""
_LOG_LINES = 15
_LOST = ("'NoneType' object has no attribute 'protocol'", "ChannelError", "StreamError")


class TaskChange(Frozen):
    """One task that changed something on a host; in check mode: would have."""

    task: str
    diff: str = ""
    """as Ansible prints it; "" where the task shows none"""


class Outcomes:
    """Collects events; `take` only reads and appends, since an error in it would end the whole run."""

    def __init__(
        self, hosts: Sequence[str], on_event: OnEvent, on_applied: Callable[[str], None] = lambda _host: None
    ) -> None:
        self.hosts = tuple(hosts)
        self.finished = False
        self._on_event = on_event
        self._on_applied = on_applied
        self._changed = dict.fromkeys(hosts, 0)
        self._changes: dict[str, list[TaskChange]] = {host: [] for host in hosts}
        self._diffs: dict[str, str] = {}
        self._messages: dict[str, str] = {}
        self._tasks: dict[str, str] = {}
        self._failed: set[str] = set()
        self._unreachable: set[str] = set()
        self._lost: set[str] = set()
        self._through: set[str] = set()
        self._before = dict.fromkeys(hosts, 0)

    def again(self, why: str) -> None:
        """All begins anew, because of `why`, which hosts that are not through are told; what changed has changed."""
        self.finished = False
        self._before = dict(self._changed)
        for told in (self._diffs, self._messages, self._tasks, self._failed, self._unreachable, self._lost):
            told.clear()
        self._changes = {host: [] for host in self.hosts}
        for host in self.hosts:
            if host not in self._through:
                self._on_event(Event(host=host, phase="apply", task=why, status="running"))

    def take(self, event: dict[str, Any]) -> bool:
        """One event of ansible-runner; True keeps its record in the run directory."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        if kind == "playbook_on_stats":
            self._finish(data)
        elif (host := data.get("host")) in self._changed:
            if kind == "runner_on_file_diff":  # comes before the task's end
                self._diffs[host] = str(event.get("stdout") or "").strip("\r\n")
            self._take_host(host, kind, data)
        return True

    def changed(self, host: str) -> int:
        """How many tasks changed something on the host."""
        return self._changed[host]

    def changes(self, host: str) -> tuple[TaskChange, ...]:
        """The tasks that changed something on the host, or would have; of those with no_log nothing is told."""
        return tuple(self._changes[host])

    def through(self, host: str) -> bool:
        """Whether the host came to the playbook's end, now or before all began anew."""
        return host in self._through

    def failed(self, host: str) -> bool:
        return host in self._failed

    def unreachable(self, host: str) -> bool:
        return host in self._unreachable

    def task(self, host: str) -> str:
        """The task that the host began last; "" when it began none."""
        return self._tasks.get(host, "")

    def message(self, host: str) -> str:
        """Why the host failed, in its own words."""
        return self._messages.get(host, "failed without a message; see the run's Ansible output")

    def _take_host(self, host: str, kind: str, data: dict[str, Any]) -> None:
        task, result = _task(data), data.get("res") or {}
        if kind == "runner_on_start":
            self._tasks[host] = task
            self._on_event(Event(host=host, phase="apply", task=task, status="running"))
        elif kind == "runner_retry" and result.get("progress"):
            # A task that waits for a job of the host asks again and again, and hears how far it is.
            self._on_event(Event(host=host, phase="apply", task=task, status="running", detail=result["progress"]))
        elif kind == "runner_on_ok":
            self._changed[host] += bool(result.get("changed"))
            diff = self._diffs.pop(host, "")
            if result.get("changed"):
                self._changes[host].append(TaskChange(task=task, diff=diff))
            status = "changed" if result.get("changed") else "ok"
            self._on_event(Event(host=host, phase="apply", task=task, status=status))
            if result.get("notice"):  # what went another way than it should have, and well in the end
                self._on_event(Event(host=host, phase="apply", task=task, status="skipped", detail=result["notice"]))
            if task == LAST_TASK:
                self._through.add(host)
                self._on_applied(host)
        elif kind == "runner_on_unreachable" or (kind == "runner_on_failed" and _lost(result)):
            (self._unreachable if kind == "runner_on_unreachable" else self._lost).add(host)
            why = words(result) if kind == "runner_on_unreachable" else "the connection broke"
            self._messages[host] = f"lost during “{task}”: {why}"
            self._on_event(Event(host=host, phase="apply", task=task, status="failed", detail=why))
        elif kind == "runner_on_failed" and not data.get("ignore_errors"):
            self._messages[host] = f"{task}: {words(result)}"
            self._on_event(Event(host=host, phase="apply", task=task, status="failed", detail=words(result)))

    def _finish(self, stats: dict[str, Any]) -> None:
        self.finished = True
        self._failed = set(stats.get("failures") or ())
        self._unreachable |= set(stats.get("dark") or ()) | (self._lost & self._failed)
        # Of tasks with no_log, events do not tell whether they changed something.
        for host, count in (stats.get("changed") or {}).items():
            if host in self._changed:
                self._changed[host] = self._before[host] + count


def words(result: dict[str, Any]) -> str:
    """What a failed task says: its message and the ends of its output, of the failed items alone in a loop."""
    failed = [item for item in result.get("results") or () if isinstance(item, dict) and item.get("failed")]
    if failed:
        return "\n".join(words(item) for item in failed)
    message = str(result.get("msg") or result.get("censored") or "failed")
    tails = [
        _end(str(result[key])) for key in ("stderr", "stdout", "module_stderr", "module_stdout") if result.get(key)
    ]
    return "\n".join([message, *(tail for tail in tails if tail and tail not in message)])


def _lost(result: dict[str, Any]) -> bool:
    """Whether mitogen lost the host while it was sending it code: Ansible calls that a failed task with a traceback."""
    message = str(result.get("msg", ""))
    return "mitogen" in message and any(sign in message for sign in _LOST)


def _task(data: dict[str, Any]) -> str:
    role, task = data.get("role") or "", data.get("task") or ""
    return f"{role}: {task}" if role and not task.startswith(role) else task


def _end(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LOG_LINES:])
