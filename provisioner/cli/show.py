"""Surveys and outcomes as text and JSON. Builders; nothing is printed here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.errors import Exit
from provisioner.hosts.lease import by_holder
from provisioner.plan.lock import entries, lock_file, short
from provisioner.plan.model import Change
from provisioner.rollout.course import Course, asks
from provisioner.rollout.outcome import HostOutcome
from provisioner.rollout.survey import HostSurvey, Survey
from provisioner.rollout.waves import turns

if TYPE_CHECKING:
    from provisioner.apply.runner import HostResult
    from provisioner.history.verdict import ServerVerdict


def problems(seen: Survey) -> str:
    """One table of what stands in the way, host by host."""
    width = max(len(host.host.name) for host in seen.unfit)
    lines = ["", f"{len(seen.unfit)} of {_hosts(len(seen.hosts))} cannot be provisioned as they are:"]
    for host in seen.unfit:
        name = host.host.name.ljust(width)
        for position, problem in enumerate(host.problems):
            first, *rest = problem.removeprefix(f"{host.host.name}: ").splitlines()
            lines.append(f"  {name if position == 0 else ' ' * width}  {first}")
            lines += [f"  {' ' * width}  {line.strip()}" for line in rest]
    return "\n".join(lines)


def nothing_changed(seen: Survey) -> str:
    """What to do about a fleet that is not fit."""
    if not seen.fit:
        return "nothing was changed"
    return f"nothing was changed; mend them, or provision the other {len(seen.fit)} with --keep-going"


def plan(seen: Survey, *, diff: bool) -> str:
    """What would change on every fit host and why."""
    lines = ["", *_locked(seen)]
    for host in seen.fit:
        lines += _host_plan(host, diff)
    return "\n".join([*lines, "", *_leased(seen), *_waves(seen), _summary(seen)])


def _locked(seen: Survey) -> list[str]:
    if seen.lock is None:
        return []
    told = [f"    {entry}: {short(to)}" for entry, to in entries(seen.lock).items()]
    return [f"locked by {lock_file(seen.fleet.path)}:", *told]


def _host_plan(host: HostSurvey, diff: bool) -> list[str]:
    if host.plan is None or host.changes is None:
        return []
    lines = [f"{host.host.name}: {host.plan.hardware_name}, {host.plan.platform}"]
    for server in host.plan.servers:
        lines.append(f"    {server.name}: {server.model_id} ({server.precision}) on {server.host}:{server.port}")
        lines.append(f"      vllm serve {' '.join(server.argv)}")
        lines += [f"      slo: {', '.join(map(str, server.slo))}"] if server.slo else []
    lines += [f"  ! {warning}" for warning in host.plan.warnings]
    for change in host.changes.changes:
        lines.append(f"  ~ {change.role}: {short(change.subject)}: {change.reason}")
        lines += _diff(change) if diff else []
    if not host.changes:
        lines += [f"  ? {name}: {why}" for name, why in host.unproven.items()]
        lines += ["  ? validated, and not yet its release"] if host.unaccepted else []
    if not host.work:
        lines.append("  = as planned, validated")
    return lines


def _leased(seen: Survey) -> list[str]:
    """Who is at work on which hosts: what the plan says of those may be over soon, and a run would have to wait."""
    words = {host.host.name: str(host.leased) for host in seen.hosts if host.leased}
    return ["leased at this moment:", *(f"  {line}" for line in by_holder(words)), ""] if words else []


def _waves(seen: Survey) -> list[str]:
    """Who goes when; nothing where all go at once."""
    rollout, waves = seen.fleet.rollout, turns(seen)
    if len(waves) < 2 and not (waves and rollout.model_fields_set):
        return []
    width = max(len(wave.name) for wave in waves)
    lines = [f"rollout: {len(waves)} waves" if len(waves) > 1 else "rollout: 1 wave"]
    for number, wave in enumerate(waves, start=1):
        lines.append(f"  {number}. {wave.name.ljust(width)}  {', '.join(wave.hosts)}")
        if number < len(waves):
            pause = [f"wait {rollout.pause_s} s"] if rollout.pause_s else []
            lines += [f"     {', '.join(step)}" for step in [pause + ["ask"] * asks(rollout, wave)] if step]
    back = {
        "wave": "rolls its wave back",
        "all": "rolls back all that were changed",
        "never": "leaves the hosts as they are",
    }[rollout.rollback]
    failed = f"{rollout.max_failures + 1} failed hosts" if rollout.max_failures else "the first failed host"
    return [*lines, f"  gate of each: {rollout.analysis}; it stops at {failed} and {back}", ""]


def _diff(change: Change) -> list[str]:
    if change.after is None:
        return []
    before, after = (change.before or "").splitlines(), change.after.splitlines()
    name = change.subject
    return [
        f"      {line}"
        for line in difflib.unified_diff(before, after, f"{name} (now)", f"{name} (planned)", lineterm="")
    ]


def _summary(seen: Survey) -> str:
    changing = [host for host in seen.fit if host.changes]
    validating = [host for host in seen.fit if not host.changes and host.work]
    idle = len(seen.fit) - len(changing) - len(validating)
    parts = [f"{len(changing)} to change", f"{len(validating)} to validate", f"{idle} as planned"]
    return f"{_hosts(len(seen.hosts))}: {', '.join(parts)}" + (f", {len(seen.unfit)} unfit" if seen.unfit else "")


def started(seen: Survey) -> str:
    """One line about a run that begins."""
    return f"a run begins on {len(seen.work)} of {_hosts(len(seen.hosts))}: {some([h.host.name for h in seen.work])}"


def ended(code: Exit, outcomes: Sequence[HostOutcome], reason: str) -> str:
    """One line about a run that is over, and one for each host that failed."""
    failed = [one for one in outcomes if one.exit_code != Exit.OK]
    good = f"{len(outcomes) - len(failed)} of {_hosts(len(outcomes))} served and validated"
    if code == Exit.OK:
        return f"a run has ended well: {good}"
    first = [_outcome(one)[0] for one in failed[:10]]
    more = [f"and {len(failed) - 10} more"] if len(failed) > 10 else []
    word = "was interrupted" if code == Exit.INTERRUPTED else f"has failed (exit code {int(code)})"
    why = [f"stopped: {reason}"] if reason else []
    return "\n".join([f"a run {word}" + (f": {good}" if outcomes else ""), *why, *first, *more])


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def check(seen: Survey, results: Sequence[HostResult], *, diff: bool) -> str:
    """The plan, then task by task what Ansible would do on the hosts with changes."""
    lines = [plan(seen, diff=diff), "", "Ansible in check mode:" if results else "nothing for Ansible to do"]
    width = max((len(one.host) for one in results), default=0)
    for one in results:
        name = one.host.ljust(width)
        if not one.would:
            lines.append(f"  {name}  would change nothing")
        for position, task in enumerate(one.would):
            lines.append(f"  {name if position == 0 else ' ' * width}  ~ {task.task}")
            lines += [f"  {' ' * width}      {line}".rstrip() for line in task.diff.splitlines() if diff]
    return "\n".join(lines)


def check_json(seen: Survey, results: Sequence[HostResult]) -> str:
    """The same for programs: the plan's document, with `ansible` for each host that was checked."""
    document = _plan_document(seen)
    for one in results:
        tasks = [task.model_dump() for task in one.would]
        document["hosts"][one.host]["ansible"] = {"state": one.state, "message": one.message, "would": tasks}
    return json.dumps(document, indent=1)


def failures(outcomes: Sequence[HostOutcome]) -> str:
    """Hosts that failed, with their own words."""
    return "\n".join(["", *(line for one in outcomes for line in _outcome(one))])


def plan_json(seen: Survey) -> str:
    """The survey for programs."""
    return json.dumps(_plan_document(seen), indent=1)


def _plan_document(seen: Survey) -> dict[str, Any]:
    hosts = {
        host.host.name: {
            "problems": list(host.problems),
            "changes": [change.model_dump() for change in host.changes.changes] if host.changes else [],
            "unproven": dict(host.unproven),
            "unaccepted": host.unaccepted,
            "release": host.release,
            "leased": host.leased.model_dump(exclude={"token"}) if host.leased else None,
            "plan": host.plan.model_dump() if host.plan else None,
        }
        for host in seen.hosts
    }
    lock = seen.lock.model_dump() if seen.lock else None
    waves = [{"name": wave.name, "hosts": list(wave.hosts)} for wave in turns(seen)]
    return {"fleet": seen.fleet.name, "lock": lock, "waves": waves, "hosts": hosts}


def facts(seen: Survey) -> str:
    """One paragraph a host."""
    lines = []
    for host in seen.hosts:
        known = host.facts
        if known is None:
            continue
        gpus = f"{len(known.gpus)} × {known.gpus[0].name}" if known.gpus else "no GPU"
        stand_in = " (simulated)" if known.simulated else ""
        docker = known.docker.version or "not there"
        lines += [
            f"{known.host}: {known.os_name}, {known.machine}, kernel {known.kernel}",
            f"    GPUs {gpus}{stand_in}, driver {known.driver_version or '–'}, CUDA {known.cuda_version or '–'}, "
            f"container toolkit {known.toolkit_version or '–'}",
            f"    Docker {docker}, {known.cpus} CPUs, {known.memory_mib // 1024} GiB memory, sudo {known.sudo}",
        ]
        lines += [f"    {path}: {free / 1024:.1f} GiB free" for path, free in known.disk_free_mib.items()]
        lines += [f"    {unit.name}: {unit.active_state}" for unit in known.units if unit.load_state == "loaded"]
    return "\n".join(lines)


def facts_json(seen: Survey) -> str:
    """Facts for programs: by host, null where a host could not be reached."""
    return json.dumps(
        {host.host.name: host.facts.model_dump() if host.facts else None for host in seen.hosts}, indent=1
    )


def outcome(outcomes: Sequence[HostOutcome], run_dir: Path | None, course: Course | None = None) -> str:
    """What became of every host, failures with the host's own words, and where the record is."""
    lines = ["", *_stopped(course)]
    for one in outcomes:
        lines += _outcome(one)
    untouched = sum(one.untouched for one in outcomes)
    if untouched == len(outcomes):
        verb = "is" if untouched == 1 else "are"
        lines.append(f"nothing changed: {_hosts(untouched)} {verb} as planned and validated")
    else:
        pending = sum(one.pending for one in outcomes)
        good = sum(one.exit_code == Exit.OK and one.state in ("promoted", "unchanged") for one in outcomes) - pending
        left = f", {pending} not reached" if pending else ""
        lines.append(f"{good} of {_hosts(len(outcomes))} served and validated ({untouched - pending} untouched{left})")
    lines += [f"chat answer from {v.host}: {v.chat_answer!r}" for v in _answers(outcomes)[:1]]
    if run_dir:
        lines.append(f"record: {run_dir}")
    return "\n".join(lines)


def _answers(outcomes: Sequence[HostOutcome]) -> list[ServerVerdict]:
    return [verdict for one in outcomes for verdict in one.verdicts if verdict.chat_answer]


def _stopped(course: Course | None) -> list[str]:
    return [f"rollout stopped at {course.stopped_at}: {course.reason}"] if course and course.reason else []


def _outcome(one: HostOutcome) -> list[str]:
    back = [f"{one.host}: {line}" for line in one.rollback.splitlines()]
    if one.exit_code == Exit.OK:
        return back
    word = {Exit.GATE_FAILED: "gate failed", Exit.UNREACHABLE: "unreachable", Exit.INTERRUPTED: "interrupted"}
    first, *rest = one.message.splitlines() or [""]
    return [f"{one.host}: {word.get(one.exit_code, 'failed')}: {first}", *(f"    {line}" for line in rest), *back]


def outcome_json(
    seen: Survey, outcomes: Sequence[HostOutcome], run_dir: Path | None, course: Course | None = None
) -> str:
    """The outcome for programs."""
    from provisioner.report.table import as_data

    hosts = {
        one.host: {
            "exit_code": int(one.exit_code),
            "changed": one.changed,
            "untouched": one.untouched,
            "state": one.state,
            "pending": one.pending,
            "rollback": one.rollback,
            "message": one.message,
            "servers": [as_data(verdict) for verdict in one.verdicts],
        }
        for one in outcomes
    }
    document: dict[str, Any] = {"fleet": seen.fleet.name, "run": str(run_dir) if run_dir else None, "hosts": hosts}
    if course:
        document["rollout"] = {"stopped_at": course.stopped_at, "reason": course.reason or None}
    return json.dumps(document, indent=1)


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"
