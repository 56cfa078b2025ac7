"""Arguments against the vLLM version that gets them: what it would refuse is said before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from provisioner.fleet.base import Frozen
from provisioner.fleet.suggest import near
from provisioner.plan import flag_tables, flags
from provisioner.plan.flag_tables import Command
from provisioner.plan.gate_data import gates
from provisioner.plan.versions import older, parse

_MOST = 8  # flags that one warning names


class Findings(Frozen):
    """What is wrong, and what may be."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(errors=self.errors + other.errors, warnings=self.warnings + other.warnings)


@lru_cache(maxsize=4096)
def check_arguments(command: Command, argv: tuple[str, ...], version: str | None) -> Findings:
    """What this vLLM version has to say about the arguments after `vllm <command>`.

    `version` None: not known (`latest`, a digest); then nothing is an error that a newer version could take.
    Errors: flags that the version does not have, values it does not take, flags without their value. Where no table
    tells (versions between two of them), a warning.
    """
    found, unsure = Findings(), []
    for name, values in _given(argv):
        base = _base(name)
        here = _has(command, base, version)
        if here is False:
            found += Findings(errors=(_missing(command, name, base, version),))
        elif here is None:
            unsure.append((name, base))
        else:
            found += _values(command, name, base, values, version)
    return found + _unsure(command, unsure, version) + _later_values(argv, version) + _partners(argv, version)


def _given(argv: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each flag as vLLM reads it, with its values. The model stands before the first one."""
    starts = [position for position, word in enumerate(argv) if flags.is_flag(word)]
    for start, end in pairwise([*starts, len(argv)]):
        name, equals, value = argv[start].partition("=")
        yield name, ((value,) if equals else ()) + tuple(argv[start + 1 : end])


def _base(name: str) -> str:
    """`--attention_config.backend` → `--attention-config`; `-O3` → `-O`. What stands before a dot names an object."""
    if re.fullmatch(r"-O\d?(\..*)?", name):
        return "-O"
    base = name.partition(".")[0].removesuffix("+")
    return base.replace("_", "-") if base.startswith("--") else base


def _has(command: Command, flag: str, version: str | None) -> bool | None:
    if flag in ("--help", "-h"):
        return True
    if flag == "-O" and command == "serve":
        # A short form of --compilation-config, then of --optimization-level: every version takes it, none lists it.
        return True
    here = flag_tables.has(command, flag, version)
    if here is not False or not flag.startswith("--no-"):
        return here
    # The negative of a flag is not always listed: sources do not tell it, and 0.33's help shows --disable-… alone.
    positive = "--" + flag.removeprefix("--no-")
    if not flag_tables.has(command, positive, version):
        return False
    option, _ = flag_tables.option(command, flag, version)
    return None if option is None or flag_tables.has_help(command, version) else True


def _missing(command: Command, name: str, base: str, version: str | None) -> str:
    told = f"vLLM {version} does not have {name}" + (f" ({command})" if command != "serve" else "")
    where = flag_tables.known_in(command, base)
    instead = gates().instead.get(base)
    if instead is not None:
        return f"{told} (vLLM {where} has); use instead: {instead.use}" if where else f"{told}; {instead.use}"
    if where:
        return f"{told} (vLLM {where} has)"
    nearest = near(base, flag_tables.names(command, version))
    return f'{told}; did you mean "{nearest}"?' if nearest else f"{told}, nor does any other version known here"


def _unsure(command: Command, unsure: list[tuple[str, str]], version: str | None) -> Findings:
    if not unsure:
        return Findings()
    which = f"vLLM {version}" if version else "this vLLM, whose version its name does not tell,"
    told = []
    for name, base in unsure[:_MOST]:
        where = flag_tables.known_in(command, base)
        nearest = None if where else near(base, flag_tables.names(command, version))
        known = (
            f"vLLM {where} has" if where else f'did you mean "{nearest}"?' if nearest else "no version known here has"
        )
        told.append(f"{name} ({known})")
    more = f" and {len(unsure) - _MOST} more" if len(unsure) > _MOST else ""
    return Findings(warnings=(f"it is not known whether {which} has {', '.join(told)}{more}",))


def _values(command: Command, name: str, base: str, values: tuple[str, ...], version: str | None) -> Findings:
    if name != base and name.replace("_", "-") != base:
        return Findings()  # a part of an object: what it takes is not in the tables
    option, told = flag_tables.option(command, base, version)
    if option is None or not told:
        return Findings()
    kind, choices = option["kind"], option.get("choices", [])
    if kind == "value" and not values:
        return Findings(errors=(f"{name} needs a value",))
    most = {"switch": 0, "boolean": 0, "value": 1, "optional": 1}.get(kind)
    if most is not None and len(values) > most:
        extra = " ".join(values[most:])
        return Findings(errors=(f"{name} takes {'one value' if most else 'no value'}: what is {extra!r} after it?",))
    wrong = [value for value in values if choices and value not in choices]
    if not wrong:
        return Findings()
    nearest = near(wrong[0], choices)
    hint = f'did you mean "{nearest}"?' if nearest else f"it takes {', '.join(choices)}"
    return Findings(errors=(f"{name} {wrong[0]}: vLLM {version} does not take that; {hint}",))


def _later_values(argv: tuple[str, ...], version: str | None) -> Findings:
    found = Findings()
    for gate in gates().values:
        if version is None or flags.value_of(argv, gate.flag) != gate.value:
            continue
        text = f"{gate.flag} {gate.value}"
        if not older(gate.before, version):
            if _told(gate.flag, version):
                continue  # the table of that version has said so
            found += Findings(errors=(f"vLLM {version} does not have {text} (vLLM {gate.since} has)",))
        elif older(version, gate.since):
            known = f"{gate.before} has not, {gate.since} has"
            found += Findings(warnings=(f"it is not known whether vLLM {version} has {text} ({known})",))
    return found


def _told(flag: str, version: str) -> bool:
    option, told = flag_tables.option("serve", flag, version)
    return told and option is not None and "choices" in option


def _partners(argv: tuple[str, ...], version: str | None) -> Findings:
    found = Findings()
    for need in gates().needs:
        if flags.value_of(argv, need.flag) != need.value:
            continue
        built_in = next((g for g in gates().values if (g.flag, g.value) == (need.flag, need.instead)), None)
        newer = built_in is not None and (version is None or parse(version) >= parse(built_in.since))
        if not flags.any_flag(argv, need.with_):
            hint = f"; vLLM {version or 'here'} has {need.instead} built in" if newer else ""
            found += Findings(errors=(f"{need.flag} {need.value} needs {need.with_}: {need.hint}{hint}",))
        elif newer and version is not None:
            note = f"{need.flag} {need.instead} is built into vLLM {version}; {need.value} with its plugin works too"
            found += Findings(warnings=(note,))
    return found
