"""What was on a host before us: written down once, kept, and put back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load import module

record = module("host_record", "library/host_record.py")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("abcde"), JSON, max_size=5)


class Host:
    """A host of one folder: packages and groups are what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = {"bash": "5"}
        self.groups = ["root"]
        self.by_hand: set[str] = set()
        self.images: dict[str, str] = {}
        self.services: dict[str, Any] = {}
        self.ports: set[str] | None = None

    def do(
        self, state: str = "before", part: str = "docker_engine", check_mode: bool = False, **options: Any
    ) -> dict[str, Any]:
        empty = {name: [] for name in ("asked", "settings", "paths", "folders", "services", "images", "ports")}
        file = str(self.folder / "lib" / "installed.json")
        params = {"file": file, "state": state, "part": part, "packages": False, **empty, **options}
        answer: dict[str, Any] = record.answer(params, check_mode)
        return answer

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "lib" / "installed.json").read_text())
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path)
    monkeypatch.setattr(record, "packages", lambda: dict(made.packages))
    monkeypatch.setattr(record, "groups", lambda: list(made.groups))
    monkeypatch.setattr(record, "chosen_by_hand", lambda: set(made.by_hand))
    monkeypatch.setattr(record, "image_id", made.images.get)
    monkeypatch.setattr(record, "service", made.services.get)
    monkeypatch.setattr(record, "open_ports", lambda: None if made.ports is None else set(made.ports))
    monkeypatch.setattr(record.shutil, "which", lambda *_, **__: None)
    return made


def test_packages_that_come_are_told_with_what_was_there_before(host: Host) -> None:
    host.do(packages=True, asked=["docker.io"])
    host.packages |= {"docker.io": "26", "runc": "1", "bash": "6"}
    host.by_hand = {"docker.io"}
    host.groups += ["docker"]
    host.do("after")
    assert host.told["parts"]["docker_engine"] == {
        "packages": {
            "bash": {"before": "5", "after": "6"},
            "docker.io": {"before": None, "after": "26"},
            "runc": {"before": None, "after": "1"},
        },
        "groups": {"docker": None},
    }
    assert host.told["pending"] == {}


def test_a_second_run_adds_nothing(host: Host) -> None:
    host.do(packages=True, asked=["docker.io"], paths=[str(host.folder / "x")])
    host.packages["docker.io"] = "26"
    host.do("after")
    before = host.told
    host.do(packages=True, asked=["docker.io"], paths=[str(host.folder / "x")])
    host.do("after")
    assert host.told == before


def test_keeping_books_is_no_change_and_nothing_told_is_nothing_kept(host: Host) -> None:
    assert host.do(packages=True, asked=["docker.io"])["changed"] is False
    assert host.do("after")["changed"] is False
    assert host.told["parts"] == {}


def test_what_somebody_installs_by_hand_meanwhile_is_theirs(host: Host) -> None:
    host.do(packages=True, asked=["docker.io"])
    host.packages |= {"docker.io": "26", "htop": "3"}
    host.by_hand = {"docker.io", "htop"}
    host.do("after")
    assert set(host.told["parts"]["docker_engine"]["packages"]) == {"docker.io"}


def test_a_run_that_dies_between_the_two_loses_nothing(host: Host) -> None:
    host.do(packages=True, asked=["docker.io"])
    host.packages["docker.io"] = "26"
    host.do(packages=True, asked=["docker.io"])  # the next run
    host.packages["docker-cli"] = "26"
    host.do("after")
    assert set(host.told["parts"]["docker_engine"]["packages"]) == {"docker.io", "docker-cli"}


def test_reading_tells_what_is_pending_and_writes_nothing(host: Host) -> None:
    host.do(packages=True, asked=["docker.io"])
    host.packages["docker.io"] = "26"
    before = host.told
    assert host.do("read")["record"]["parts"]["docker_engine"]["packages"] == {
        "docker.io": {"before": None, "after": "26"}
    }
    assert host.told == before


@pytest.mark.parametrize(
    ("asked", "name", "ours"),
    [
        ("docker.io", "docker.io", True),
        ("toolkit=1.2-1", "toolkit", True),
        ("toolkit-1.2-1", "toolkit", True),
        ("docker-ce-cli", "docker-ce", False),
        ("docker", "docker.io", False),
    ],
)
def test_a_package_by_the_name_it_was_asked_for(asked: str, name: str, ours: bool) -> None:
    assert bool(record.came({}, {name: "1"}, [asked], {name})) is ours


def test_paths_are_told_as_they_were(host: Host) -> None:
    (host.folder / "old").mkdir()
    (host.folder / "old" / "file").write_text("x")
    (host.folder / "empty").mkdir()
    (host.folder / "text").write_text("mine")
    (host.folder / "text").chmod(0o640)
    names = ["old", "empty", "text", "deep/er/new"]
    host.do(paths=[str(host.folder / name) for name in names])
    assert [host.told["parts"]["docker_engine"]["paths"][str(host.folder / name)] for name in names] == [
        "kept",
        "empty",
        {"text": "mine", "mode": "0640"},
        "missing",
    ]
    assert host.told["folders"] == [str(host.folder / name) for name in ("deep", "deep/er", "lib")]


def test_what_was_told_once_stays(host: Host) -> None:
    path = host.folder / "text"
    host.do(paths=[str(path)], images=["a:1"], services=["docker.service"])
    path.write_text("ours")
    host.images["a:1"] = "sha256:1"
    host.services["docker.service"] = {"enabled": True, "active": True}
    host.do(paths=[str(path)], images=["a:1"], services=["docker.service"])
    told = host.told["parts"]["docker_engine"]
    assert told == {"paths": {str(path): "missing"}, "images": {"a:1": None}, "services": {"docker.service": None}}


def test_settings_are_told_key_by_key_and_undone(host: Host) -> None:
    path = host.folder / "daemon.json"
    first = '{"log-level":  "warn", "registry-mirrors": ["http://theirs"]}'
    path.write_text(first)
    host.do(settings=[str(path)])
    path.write_text('{"log-level": "warn", "registry-mirrors": ["http://theirs", "http://ours"], "ipv6": true}')
    host.do("after")
    assert host.told["parts"]["docker_engine"]["settings"][str(path)] == {
        "text": first,
        "before": {"registry-mirrors": ["http://theirs"]},
        "after": {"registry-mirrors": ["http://theirs", "http://ours"], "ipv6": True},
    }
    assert host.do("undone")["settings"] == [str(path)]
    assert path.read_text() == first
    assert host.do("undone") == {**host.do("undone"), "changed": False}


def test_what_others_write_into_settings_later_stays(host: Host) -> None:
    path = host.folder / "daemon.json"
    host.do(settings=[str(path)])
    path.write_text('{"runtimes": {"nvidia": {}}, "registry-mirrors": ["http://ours"]}')
    host.do("after")
    path.write_text('{"runtimes": {"nvidia": {}, "kata": {}}, "registry-mirrors": ["http://ours", "http://theirs"]}')
    host.do("undone")
    assert json.loads(path.read_text()) == {"runtimes": {"kata": {}}, "registry-mirrors": ["http://theirs"]}


def test_settings_that_were_not_there_go(host: Host) -> None:
    path = host.folder / "etc" / "daemon.json"
    host.do(settings=[str(path)])
    path.parent.mkdir()
    path.write_text('{"ipv6": true}')
    host.do("after")
    host.do("undone")
    assert not path.exists()
    host.do("settled")
    assert not path.parent.exists()


def test_settled_drops_what_is_as_it_was_and_at_last_the_record(host: Host) -> None:
    path = host.folder / "new"
    host.do(packages=True, asked=["docker.io"], paths=[str(path)], images=["a:1"])
    host.packages |= {"docker.io": "26", "bash": "6"}
    path.mkdir()
    host.images["a:1"] = "sha256:1"
    host.do("after")
    path.rmdir()
    host.do("settled")
    assert host.told["parts"] == {
        "docker_engine": {"packages": {"docker.io": {"before": None, "after": "26"}}, "images": {"a:1": None}}
    }
    del host.packages["docker.io"], host.images["a:1"]
    assert host.do("settled")["changed"] is True
    assert list(host.folder.iterdir()) == []
    assert host.do("settled")["changed"] is False


def test_ports_are_ours_from_when_they_were_closed_until_they_are_again(host: Host) -> None:
    host.do(part="vllm_server", ports=["8000"])  # no firewall: nothing to tell
    assert host.told["parts"] == {}
    host.ports = {"22", "9000"}
    asked = host.do(part="vllm_server", ports=["8000", "9000"], check_mode=True)
    assert asked["record"]["parts"] == {"vllm_server": {"ports": {"8000": None}}}
    assert host.told["parts"] == {}
    host.do(part="vllm_server", ports=["8000", "9000"])
    host.ports |= {"8000"}
    host.do(part="vllm_server", ports=["8000", "9000"])
    assert host.told["parts"] == {"vllm_server": {"ports": {"8000": None}}}
    assert host.do("read")["now"]["ports"] == ["8000"]
    host.do("settled")
    host.do(part="vllm_server")
    assert host.told["parts"] == {"vllm_server": {"ports": {"8000": None}}}
    host.ports -= {"8000"}
    host.do(part="vllm_server")
    assert host.told["parts"] == {}
    host.ports |= {"8000"}  # by somebody else
    host.do(part="vllm_server", ports=["8000"])
    assert host.told["parts"] == {}


def test_a_port_that_is_closed_again_is_settled(host: Host) -> None:
    host.ports = set()
    host.do(part="vllm_server", ports=["8000"])
    assert host.do("settled")["changed"] is True
    assert list(host.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("programs", "ports"),
    [
        ({"ufw status": "Status: active\n\n8000/tcp   ALLOW   Anywhere # vllm-a.service\n53/udp ALLOW x\n"}, {"8000"}),
        ({"ufw status": "Status: inactive\n"}, None),
        ({"firewall-cmd --state": "running\n", "firewall-cmd --list-ports": "8000/tcp 53/udp\n"}, {"8000"}),
        ({"firewall-cmd --state": "running\n"}, set()),
        ({}, None),
    ],
)
def test_open_ports(programs: dict[str, str], ports: set[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "output", lambda *argv: programs.get(" ".join(argv), ""))
    assert record.open_ports() == ports


def test_check_mode_writes_nothing(host: Host) -> None:
    assert host.do(packages=True, paths=["/x"], check_mode=True)["changed"] is False
    assert list(host.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("[]", "cannot be read (list indices must be integers or slices, not str)"),
        ('{"version": 2}', "is of version 2, this program knows 1: use the newer program"),
    ],
)
def test_a_record_that_cannot_be_read(host: Host, text: str, words: str) -> None:
    path = host.folder / "lib" / "installed.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(record.RecordError) as raised:
        host.do("read")
    assert str(raised.value).startswith(f"{path} {words}")


@given(first=OBJECTS, ours=OBJECTS)
def test_undoing_at_once_gives_back_the_very_text(first: dict[str, Any], ours: dict[str, Any]) -> None:
    was = {"text": json.dumps(first, indent=3), "before": {}, "after": {}}
    record.merge_keys(was, first, {**first, **ours})
    assert record.undone(was, json.dumps({**first, **ours})) == was["text"]


@given(first=OBJECTS, changes=st.lists(OBJECTS, max_size=3), theirs=JSON)
def test_keys_of_others_survive(first: dict[str, Any], changes: list[dict[str, Any]], theirs: Any) -> None:
    was: dict[str, Any] = {"text": json.dumps(first), "before": {}, "after": {}}
    now = first
    for change in changes:
        record.merge_keys(was, now, {**now, **change})
        now = {**now, **change}
    left = json.loads(record.undone(was, json.dumps({**now, "theirs": theirs})))
    assert left == {**first, "theirs": theirs}
