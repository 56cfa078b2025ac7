from __future__ import annotations

from collections.abc import Callable

import pytest
from builders import converged, facts, fleet, plan, server
from worlds import proof

from provisioner.plan.facts import Facts
from provisioner.plan.proof import Proof, doubt

NEW_IMAGE = "sha256:" + "2" * 64


def why(seen: Facts, known: Proof | None) -> str | None:
    of = plan()
    return doubt(of, of.servers[0], seen, known)


def test_what_was_proven_as_it_is_now_holds() -> None:
    seen = converged(plan())
    assert why(seen, proof(seen, plan())) is None


DOUBTS: dict[str, tuple[Callable[[Facts], Facts], str]] = {
    "a changed driver": (
        lambda seen: seen.model_copy(update={"driver_version": "590.44.01"}),
        "validate again: it was proven with driver 580.95.05, now it is 590.44.01",
    ),
    "a driver that cannot be told": (
        lambda seen: seen.model_copy(update={"driver_version": None}),
        "validate again: it was proven with driver 580.95.05, now it is None",
    ),
    "another image under the same tag, and the container started with it": (
        lambda seen: seen.model_copy(
            update={"containers": tuple(one.model_copy(update={"image_id": NEW_IMAGE}) for one in seen.containers)}
        ),
        "validate again: it was proven with image 111111111111, now it runs 222222222222",
    ),
    "no container": (
        lambda seen: seen.model_copy(update={"containers": ()}),
        "validate again: it was proven with image 111111111111, now it runs none",
    ),
    "a server that does not answer": (
        lambda seen: seen.model_copy(update={"health": {8000: 0}}),
        "validate again: it does not answer /health",
    ),
}


@pytest.mark.parametrize(("drift", "expected"), DOUBTS.values(), ids=DOUBTS)
def test_a_proof_that_does_not_speak_for_what_is_there(drift: Callable[[Facts], Facts], expected: str) -> None:
    seen = converged(plan())
    assert why(drift(seen), proof(seen, plan())) == expected


def test_a_proof_of_another_plan() -> None:
    seen, other = converged(plan()), plan(fleet(server(max_num_seqs=4)))
    expected = "validate again: what was proven is not what is planned now"
    assert why(seen, proof(seen, other)) == expected


def test_no_proof() -> None:
    assert why(converged(plan(), facts()), None) == "runs as planned but is not validated yet"


def test_a_proof_of_other_objectives() -> None:
    seen, other = converged(plan()), plan(fleet(server(slo={"default": ("output_throughput >= 1 tok/s",)})))
    assert why(seen, proof(seen, other)) == "validate again: what was proven is not what is planned now"
