"""A whole lock from real servers on this machine: a registry, a model hub, a git repository; and how it is written."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import facts, fleet, lock, plan, recipes, server, spark
from oci_server import Registry, Store
from test_git_refs import git

from provisioner.errors import Exit, ProvisionError, UpstreamError, UpstreamUnreachableError, UsageError
from provisioner.fleet.models import Docker, Fleet, Hub, Image, RegistryLogin, Weights
from provisioner.lab import hub as lab
from provisioner.plan.lock import UNLOCKED, Lock, lock_text, read_lock
from provisioner.plan.needs import Needs, needs
from provisioner.rollout.locking import Move, look_up, make_lock, moves, write_lock
from provisioner.rollout.recorded import recorded_survey

IMAGE = "vllm/vllm-openai:v0.12.0"
TOKEN = "hf_lab_sEcReT"
PARSER = b"parser = 1\n"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / "org" / "model"
    folder.mkdir(parents=True)
    (folder / "parser.py").write_bytes(PARSER)
    (folder / ".gated").touch()
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    return folder


@pytest.fixture
def served(models: Path, tmp_path: Path) -> Iterator[tuple[Fleet, Registry]]:
    """A fleet whose registry, hub and sources are on this machine; the registry has the image for amd64."""
    store = Store()
    store.put_image("vllm/vllm-openai", "v0.12.0")
    running = lab.Hub(models.parents[1], ("127.0.0.1", 0), token_file=tmp_path / "tokens")
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with Registry(store) as registry:
        endpoint = f"http://127.0.0.1:{running.server_address[1]}"
        yield (
            Fleet.model_validate(
                fleet().model_dump()
                | {"path": tmp_path / "fleet.yaml", "hub": Hub(endpoint=endpoint, token="env:HUB")}
                | {"docker": Docker(registry_mirrors=(f"http://{registry.address}",))}
            ),
            registry,
        )
    running.shutdown()
    thread.join()
    running.server_close()


def wanted(source: Path | str, **more: object) -> Needs:
    names = {
        "images": {IMAGE: frozenset({"linux/amd64"})},
        "builds": frozenset({(str(source), "main")}),
        "models": frozenset({("org/model", "main")}),
        "plugins": frozenset({("org/model", "main", "parser.py")}),
        "recipes": {"org/recipe": "e" * 64},
    }
    return Needs.model_validate({**names, **more})


def test_everything(served: tuple[Fleet, Registry], models: Path, tmp_path: Path) -> None:
    the_fleet, registry = served
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q", "-b", "main")
    git(source, "commit", "-q", "--allow-empty", "-m", "one")
    found = look_up(the_fleet, wanted(source), TOKEN, {})
    commit = lab.keep_commit(models)
    own = registry.store.put_image("vllm/vllm-openai", "v0.12.0")
    assert found == Lock.model_validate(
        {
            "images": {IMAGE: {"digest": own, "platforms": {"linux/amd64": own}}},
            "builds": {str(source): {"main": git(source, "rev-parse", "main")}},
            "models": {"org/model": {"main": commit}},
            "plugins": {
                "org/model": {
                    "parser.py": {"revision": "main", "commit": commit, "sha256": hashlib.sha256(PARSER).hexdigest()}
                }
            },
            "recipes": {"org/recipe": "e" * 64},
        }
    )


def test_all_that_fails_is_told_at_once(served: tuple[Fleet, Registry], tmp_path: Path) -> None:
    the_fleet, registry = served
    registry.status = 503
    names = wanted(tmp_path / "none", images={f"{registry.address}/vllm:1": frozenset({"linux/amd64"})})
    with pytest.raises(UpstreamError) as caught:
        look_up(the_fleet, names, None, {})
    first, *lines = str(caught.value).splitlines()
    assert first == "nothing was locked:"
    failures = [line for line in lines if not line.startswith("    hint: ")]
    assert [line.partition(" is told by")[0].strip() for line in failures[:1]] == [f"{registry.address}/vllm:1"]
    assert f"  {tmp_path / 'none'} cannot be asked: fatal:" in failures[1]
    assert failures[2].startswith(f"  {the_fleet.hub.endpoint}: parser.py of org/model at ")
    assert failures[2].endswith(" is gated: no token is given (hub.token)")
    assert len(failures) == 3
    assert caught.value.exit_code == Exit.BAD_INPUT


def test_silence_everywhere_is_unreachable(tmp_path: Path) -> None:
    closed = Hub(endpoint="http://127.0.0.1:9")
    with pytest.raises(UpstreamUnreachableError) as caught:
        look_up(fleet(hub=closed), Needs(models=frozenset({("org/model", "main")})), None, {})
    assert caught.value.exit_code == Exit.UNREACHABLE


def test_an_image_without_the_hosts_platform(served: tuple[Fleet, Registry], tmp_path: Path) -> None:
    names = Needs(images={IMAGE: frozenset({"linux/arm64", "linux/amd64"})})
    with pytest.raises(UpstreamError) as caught:
        look_up(served[0], names, None, {})
    assert str(caught.value) == (
        f"nothing was locked:\n  {IMAGE} has no linux/arm64, which hosts of the fleet are; it has linux/amd64\n"
        "  hint: name another image for these platforms"
    )


def test_a_private_registry(served: tuple[Fleet, Registry], tmp_path: Path) -> None:
    the_fleet, registry = served
    own = registry.store.put_image("team/vllm", "1")
    registry.login = "me:sEcReT"
    names = Needs(images={f"{registry.address}/team/vllm:1": frozenset({"linux/amd64"})})
    found = look_up(the_fleet, names, None, {registry.address: ("me", "sEcReT")})
    assert found.images[f"{registry.address}/team/vllm:1"].digest == own


class TestMakeLock:
    """From a survey: what is kept, what is asked for, and with which token."""

    def test_only_what_is_missing_is_asked_for(self, served: tuple[Fleet, Registry]) -> None:
        the_fleet, registry = served
        seen = recorded_survey(the_fleet, recipes(), {"gpu-01": spark("gpu-01")}, lock())
        assert make_lock(seen, recipes(), lock(), {}) == lock()
        assert registry.asked == []

    def test_the_token_is_a_reference(self, served: tuple[Fleet, Registry]) -> None:
        seen = recorded_survey(served[0], recipes(), {"gpu-01": spark("gpu-01")}, None)
        with pytest.raises(UsageError, match="the secret env:HUB is not set"):
            make_lock(seen, recipes(), UNLOCKED, {})

    def test_a_private_registry_is_asked_with_the_fleets_login(self, served: tuple[Fleet, Registry]) -> None:
        registry = served[1]
        image, registry.login = f"{registry.address}/team/vllm:v0.12.0", "me:sEcReT"
        own = registry.store.put_image("team/vllm", "v0.12.0")
        logins = {registry.address: RegistryLogin(username="me", password="env:PASSWORD")}
        unused = {"ghcr.io": RegistryLogin(username="me", password="env:NOT_SET")}
        private = fleet(
            server(image={"default": Image(pull=image)}),
            docker=Docker(registries=logins | unused),
            weights=Weights(download=False),
        )
        seen = recorded_survey(private, recipes(), {"gpu-01": facts()}, None)
        assert seen.hosts[0].plan is not None
        # all but the image is locked
        models = {one.repo: {one.revision: "c" * 40} for one in seen.hosts[0].plan.weights}
        known = Lock.model_validate({"models": models, "recipes": {r.id: r.sha256 for r in recipes().values()}})
        seen = recorded_survey(private, recipes(), {"gpu-01": facts()}, known)
        made = make_lock(seen, recipes(), known, {"PASSWORD": "sEcReT"})
        assert made.images[image].digest == own
        with pytest.raises(UpstreamError, match=r"refuses these credentials \(HTTP 401\)"):
            make_lock(seen, recipes(), known, {"PASSWORD": "wrong"})

    def test_a_host_without_a_plan(self, served: tuple[Fleet, Registry]) -> None:
        with pytest.raises(ProvisionError) as caught:
            make_lock(recorded_survey(served[0], recipes(), {}), recipes(), UNLOCKED, {})
        assert str(caught.value) == (
            "nothing was locked, because it is not known what these hosts need:\n"
            "  gpu-01: no facts of it are recorded\n  hint: mend them, or lock for the others with --hosts"
        )
        assert caught.value.exit_code == Exit.BAD_INPUT


class TestWrite:
    """The file, in one step."""

    def test_the_file(self, tmp_path: Path) -> None:
        the_fleet = fleet().model_copy(update={"path": tmp_path / "prod.yaml"})
        assert write_lock(the_fleet, lock()) == tmp_path / "prod.lock"
        assert (tmp_path / "prod.lock").read_text() == lock_text(lock(), "prod.yaml")
        assert read_lock(tmp_path / "prod.yaml") == lock()
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((tmp_path / "prod.lock").stat().st_mode) == 0o666 & ~umask
        assert [path.name for path in tmp_path.iterdir()] == ["prod.lock"]

    def test_what_fails_leaves_the_old_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        the_fleet = fleet().model_copy(update={"path": tmp_path / "prod.yaml"})
        write_lock(the_fleet, lock("a"))

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UsageError, match=r"prod\.lock cannot be written: No space left on device"):
            write_lock(the_fleet, lock("b"))
        assert read_lock(tmp_path / "prod.yaml") == lock("a")
        assert [path.name for path in tmp_path.iterdir()] == ["prod.lock"]


def test_moves() -> None:
    old, new = lock("a"), lock("b")
    assert moves(old, old) == ()
    assert [move.entry for move in moves(UNLOCKED, old)] == list(needs_words())
    assert moves(old, old.model_copy(update={"images": new.images})) == (
        Move(f"image {IMAGE}", f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"),
    )
    assert {(move.before is None, move.after is None) for move in moves(old, UNLOCKED)} == {(False, True)}


def needs_words() -> tuple[str, ...]:
    the_fleet = fleet(hosts=("gpu-01", "spark-01"))
    return needs([plan(the_fleet), plan(the_fleet, spark())], recipes(), UNLOCKED).words()
