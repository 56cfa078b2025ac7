"""Kept results."""

from __future__ import annotations

from builders import facts, fleet, plan, recipes, server

from provisioner.plan.resolve import plan_host
from provisioner.plan.same import kept


def test_the_same_objects_give_the_same_result() -> None:
    calls: list[tuple[object, str]] = []

    @kept(2)
    def joined(of: list[int], text: str) -> str:
        calls.append((of, text))
        return f"{of}{text}"

    one, equal = [1], [1]
    assert joined(one, "a") is joined(one, "a")
    assert len(calls) == 1
    assert joined(equal, "a") == joined(one, "a")
    assert len(calls) == 2, "an equal object is another one"
    joined(one, "b")
    assert len(calls) == 3


def test_hosts_alike_share_what_was_decided() -> None:
    of, known = fleet(server(), hosts=("a", "b")), recipes()
    first, second = (plan_host(of, of.host(name), facts(name), known) for name in ("a", "b"))
    assert first.servers[0].unit_file is second.servers[0].unit_file


def test_another_number_of_gpus_is_another_server() -> None:
    of = fleet(server(), hosts=("a", "b"))
    assert plan(of, facts("a", gpus=("NVIDIA H200",) * 2)).servers[0].gpu_count == 2
    assert plan(of, facts("b")).servers[0].gpu_count == 1
