from __future__ import annotations

from pathlib import Path
from string import hexdigits
from typing import Any

import pytest
from builders import fleet, lock, plan, recipes, server, spark
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.errors import HostError, InputError, UsageError
from provisioner.fleet.models import Archive, Image
from provisioner.plan.lock import UNLOCKED, Lock, entries, lock_file, lock_text, merged, read_lock, short
from provisioner.plan.needs import Needs, check_locked, check_recipes, needs

IMAGE = "vllm/vllm-openai:v0.12.0"
GIT = "https://github.com/vllm-project/vllm.git"
BF16, FP8 = (f"nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-{kind}" for kind in ("BF16", "FP8"))
PLUGIN = "nano_v3_reasoning_parser.py"


def hashes(length: int, prefix: str = "") -> st.SearchStrategy[str]:
    return st.text(hexdigits[:16], min_size=length, max_size=length).map(lambda text: prefix + text)


# Names as they may come: numbers, truth, YAML's own signs and other scripts among them.
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
LOCKS = st.builds(
    lambda **parts: Lock.model_validate(parts),
    images=st.dictionaries(
        NAMES,
        st.fixed_dictionaries(
            {"digest": hashes(64, "sha256:"), "platforms": st.dictionaries(NAMES, hashes(64, "sha256:"), max_size=2)}
        ),
        max_size=3,
    ),
    builds=st.dictionaries(NAMES, st.dictionaries(NAMES, hashes(40), min_size=1, max_size=2), max_size=2),
    models=st.dictionaries(NAMES, st.dictionaries(NAMES, hashes(40), min_size=1, max_size=2), max_size=2),
    plugins=st.dictionaries(
        NAMES,
        st.dictionaries(
            NAMES,
            st.fixed_dictionaries({"revision": NAMES, "commit": hashes(40), "sha256": hashes(64)}),
            min_size=1,
            max_size=2,
        ),
        max_size=2,
    ),
    recipes=st.dictionaries(NAMES, hashes(64), max_size=2),
)
WHOLE = lock_text(lock(), "fleet.yaml").splitlines(keepends=True)
PIECES = [*"\n\t {}[]:,-&*!|>'\"#%@`", "images", "a", "1", "<<", "sha256:", "~", "  "]
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=LOCKS)
def test_what_is_written_is_read(written: Lock, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    lock_file(path).write_text(lock_text(written, path.name), encoding="utf-8")
    assert read_lock(path) == written
    assert lock_text(written, path.name) == lock_text(Lock.model_validate(written.model_dump()), path.name)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_any_text_is_a_lock_or_is_told_with_its_place(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    lock_file(path).write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    told(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_lock_is_told_with_its_place(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    lines = list(WHOLE)
    place = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["drop", "twice", "cut", "insert", "indent"]))
    line = lines[place]
    cut = data.draw(st.integers(0, len(line)))
    changed = {"drop": "", "twice": line * 2, "cut": line[:cut], "indent": f"  {line}"}
    lines[place] = changed.get(kind) or f"{line[:cut]}{data.draw(st.text(max_size=3))}{line[cut:]}"
    lock_file(path).write_text("".join(lines), encoding="utf-8", errors="surrogatepass", newline="")
    told(path)


def told(path: Path) -> None:
    problems = []
    try:
        read_lock(path)
    except InputError as error:
        problems = error.problems
    assert all(problem.file == lock_file(path) and problem.reason for problem in problems)


def test_names_of_the_file() -> None:
    assert lock_file(Path("a/b/fleet.yaml")) == Path("a/b/fleet.lock")
    assert lock_file(Path("prod.eu.yml")) == Path("prod.eu.lock")


def test_no_lock_locks_nothing(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "fleet.yaml") is None
    assert plan(lock=UNLOCKED) == plan()


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "fleet.lock").mkdir()
    with pytest.raises(InputError, match=r"fleet\.lock: is a directory"):
        read_lock(tmp_path / "fleet.yaml")


def test_short() -> None:
    assert short(f"{'a' * 40} sha256:{'b' * 64}") == f"{'a' * 12} sha256:{'b' * 12}"
    assert short(f"{IMAGE}@sha256:{'b' * 64}") == f"{IMAGE}@sha256:{'b' * 12}"
    assert short("deadbeef") == "deadbeef"


def test_merged_keeps_and_moves() -> None:
    old, new = lock("a"), lock("b")
    found = Lock(models={FP8: {"v2": "c" * 40}, "org/new": {"main": "d" * 40}}, images=new.images)
    both = merged(old, found)
    assert both.models == {**old.models, FP8: {"main": "a" * 40, "v2": "c" * 40}, "org/new": {"main": "d" * 40}}
    assert (both.images, both.builds, both.plugins, both.recipes) == (new.images, old.builds, old.plugins, old.recipes)
    assert merged(old, UNLOCKED) == old


def test_needs_and_entries_speak_alike() -> None:
    the_fleet = fleet(hosts=("gpu-01", "spark-01"))
    wanted = needs([plan(the_fleet), plan(the_fleet, spark())], recipes(), UNLOCKED)
    assert set(wanted.words()) == set(entries(lock()))
    assert wanted.images == {IMAGE: frozenset({"linux/amd64"})}


def test_an_archive_is_what_it_is() -> None:
    archive = Archive(path=Path("/srv/vllm.tar"), image=IMAGE)
    assert needs([plan(fleet(server(image={"default": Image(archive=archive)})))], recipes(), UNLOCKED).images == {}


def test_what_is_locked_is_needed_no_more() -> None:
    the_fleet = fleet(hosts=("gpu-01", "spark-01"))
    plans = [plan(the_fleet, lock=lock()), plan(the_fleet, spark(), lock())]
    assert not needs(plans, recipes(), lock())


@pytest.mark.parametrize(
    ("without", "lacks"),
    [
        ({"images": {}}, f"image {IMAGE}"),
        ({"builds": {}}, f"build of {GIT} at v0.12.0"),
        ({"models": {BF16: {"main": "a" * 40}}}, f"model {FP8} at main"),
        ({"models": {BF16: {"main": "a" * 40}, FP8: {"beta": "a" * 40}}}, f"model {FP8} at main"),
        ({"plugins": {}}, f"plugin {PLUGIN} of {BF16} at main"),
        ({"recipes": {}}, f"recipe {BF16}"),
    ],
)
def test_what_is_lacking_is_named(without: dict[str, Any], lacks: str) -> None:
    partly = Lock.model_validate({**lock().model_dump(), **without})
    the_fleet = fleet(hosts=("gpu-01", "spark-01"))
    wanted = needs([plan(the_fleet, lock=partly), plan(the_fleet, spark(), partly)], recipes(), partly)
    assert wanted.words() == (lacks,)
    with pytest.raises(UsageError) as caught:
        check_locked(wanted, Path("fleet.lock"), "provision lock fleet.yaml")
    assert str(caught.value) == (
        f"fleet.lock lacks what the fleet needs:\n  {lacks}\n  hint: add it with `provision lock fleet.yaml`"
    )


def test_nothing_lacking_is_no_error() -> None:
    check_locked(Needs(), Path("fleet.lock"), "")
    check_recipes(lock(), recipes(), Path("fleet.lock"), "")


def test_a_password_in_an_address_is_not_locked() -> None:
    secret = GIT.replace("https://", "https://me:sEcReT@")
    assert lock().ref(secret, "v0.12.0") == "a" * 40
    assert Needs(builds=frozenset({(secret, "v1")})).words() == (f"build of {GIT} at v1",)


def test_a_platform_that_the_locked_image_lacks() -> None:
    partly = lock().model_dump()
    del partly["images"][IMAGE]["platforms"]["linux/arm64"]
    pulled = fleet(server(image={"default": {"pull": IMAGE}}), hosts=("spark-01",))
    with pytest.raises(HostError, match=f"^{IMAGE} is locked to sha256:aaaaaaaaaaaa, which has no linux/arm64"):
        plan(pulled, spark(), Lock.model_validate(partly))


def test_the_driver_s_way_out_names_a_tag() -> None:
    """Not the digest of an image that the driver does not run."""
    from builders import facts

    from provisioner.plan.preflight import obstacles

    tag = "vllm/vllm-openai:v0.12.0-cu130"
    locked = {**lock().model_dump(), "images": {tag: lock().images[IMAGE].model_dump()}}
    old = facts(driver_version="570.10")
    the_plan = plan(fleet(server(image={"default": {"pull": tag}})), old, Lock.model_validate(locked))
    (problem,) = obstacles(the_plan, old)
    assert "or use vllm/vllm-openai:v0.12.0, which holds CUDA 12" in problem
