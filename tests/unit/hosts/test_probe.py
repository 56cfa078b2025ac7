from __future__ import annotations

import ast
import json
import threading
from pathlib import Path

import pytest

from provisioner.errors import HostError, ProvisionError, UnreachableError
from provisioner.fleet.models import Host
from provisioner.hosts import probe_script
from provisioner.hosts.fake import ConnectionDies, FakeTransport, Hangs, Scripted
from provisioner.hosts.probe import LAUNCH, ProbeRequest, probe, probe_all, script
from provisioner.hosts.transport import Result

RECORDED = Path(__file__).parents[2] / "recorded"
ANSWER = json.dumps(json.loads((RECORDED / "gpu" / "h200" / "probe.json").read_text()))
SAID = f"banner\n{probe_script.BEGIN}\n{ANSWER}\n{probe_script.END}\n"


def host(answer: Scripted, name: str = "gpu-01") -> FakeTransport:
    return FakeTransport(name, [("python3", answer)])


def test_one_round_trip_with_the_script_on_stdin() -> None:
    transport = host(SAID)
    request = ProbeRequest(files=("/etc/it's",), ports=(8000,))
    facts = probe(transport, request)
    assert (facts.host, facts.gpus[0].name) == ("gpu-01", "NVIDIA H200")
    (ran,) = transport.ran
    assert ran.command == LAUNCH
    assert ran.stdin.decode() == script(request)
    assert ran.timeout_s == 75


def test_script_carries_the_request() -> None:
    request = ProbeRequest(files=('/etc/a "quoted" it\'s \u2603',), public_files=("/etc/a\\b",), health=((8000, "::"),))
    call = ast.parse(script(request)).body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    (loads,) = call.value.args
    assert isinstance(loads, ast.Call)
    (text,) = loads.args
    assert isinstance(text, ast.Constant)
    assert ProbeRequest.model_validate_json(str(text.value)) == request


def test_host_side_needs_python_36_and_its_standard_library_alone() -> None:
    tree = ast.parse(Path(probe_script.__file__).read_text(), feature_version=(3, 6))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imported if isinstance(node, ast.ImportFrom)}
    assert names <= {
        *("glob", "hashlib", "json", "os", "pwd", "re", "signal", "socket", "stat", "struct"),
        *("subprocess", "sys", "threading", "typing"),
    }


def test_launch_command_suits_any_login_shell() -> None:
    """One pair of single quotes around it all, no ! and no $( ) outside of them: csh and fish pass that on as it is."""
    before, inside, after = LAUNCH.split("'")
    assert before == "exec /bin/sh -c "
    assert "!" not in inside
    assert after == ""


def test_all_hosts_each_as_soon_as_it_is_there() -> None:
    slow_may_end = threading.Event()

    def slow(_command: str, _stdin: bytes) -> str:
        assert slow_may_end.wait(timeout=10)
        return SAID

    transports = {"slow": host(slow, "slow"), "quick": host(SAID, "quick"), "dies": host(ConnectionDies(), "dies")}
    names = ["slow", "quick", "dies", "down"]

    def connect(one: Host) -> FakeTransport:
        if one.name == "down":
            raise UnreachableError("down: refused")
        return transports[one.name]

    results = probe_all([Host(name=name) for name in names], connect, {name: ProbeRequest() for name in names})
    first = [next(results) for _ in range(3)]
    slow_may_end.set()
    (last,) = results
    by_name = {result.host: result for result in (*first, last)}
    assert last.host == "slow"
    assert [name for name in names if by_name[name].facts] == ["slow", "quick"]
    errors = {name: type(by_name[name].error) for name in names}
    assert errors == {"slow": type(None), "quick": type(None), "dies": UnreachableError, "down": UnreachableError}
    assert all(result.seconds >= 0 for result in by_name.values())


def test_no_hosts_no_results() -> None:
    assert list(probe_all([], lambda _host: host(SAID), {})) == []


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Hangs(), HostError, "gpu-01: `exec /bin/sh -c 'command -v python3 "),
        (Result(127, "", "python3: not found\n"), HostError, "gpu-01: python3 is not installed"),
        (Result(1, "", "This account is not available.\n"), HostError, "(exit 1): This account is not available."),
        (ConnectionDies(), UnreachableError, "gpu-01: the SSH connection was lost"),
    ],
)
def test_failures(answer: Scripted, kind: type[ProvisionError], message: str) -> None:
    with pytest.raises(kind) as caught:
        probe(host(answer), ProbeRequest())
    assert message in str(caught.value)


def test_bug_in_the_parser_is_no_host_error() -> None:
    broken = SAID.replace('"kernel"', '"kernal"')
    results = probe_all([Host(name="gpu-01")], lambda _host: host(broken), {"gpu-01": ProbeRequest()})
    with pytest.raises(KeyError):
        next(results)
