from __future__ import annotations

import math
from pathlib import Path

from reports import THREE, latency, measured, result, tuning

from provisioner.history.rundir import create_run
from provisioner.history.tuning import known_points, read_tuning, save_tuning, tunings


def test_what_is_saved_is_read_whatever_the_figures(tmp_path: Path) -> None:
    odd = measured(8, 10, 10).model_copy(update={"result": result(1, itl=latency(math.inf), raw={"x": math.inf})})
    run = create_run("lab", command=["t"], fleet_path=Path("f"), root=tmp_path)
    save_tuning(run, tuning(odd))
    assert read_tuning(run.path) == tuning(odd)


def test_secrets_are_redacted(tmp_path: Path) -> None:
    run = create_run("lab", command=["t"], fleet_path=Path("f"), root=tmp_path, secrets=["CUDA out of memory"])
    save_tuning(run, THREE)
    assert "CUDA out of memory" not in (run.path / "tune.json").read_text()


def test_the_newest_measurement_counts_and_says_where_it_is_from(tmp_path: Path) -> None:
    newer, older = tuning(measured(8, 20, 10)), tuning(measured(8, 10, 10), measured(4, 5, 5, kept_from="first"))
    known = known_points((("r2", newer), ("r1", older)))
    assert {key: (one.kept_from, one.result and one.result.output_throughput) for key, one in known.items()} == {
        "8": ("r2", 20),
        "4": ("first", 5),
    }


def test_no_run_no_tuning(tmp_path: Path) -> None:
    assert tunings("lab", "gpu-01", "nemotron", tmp_path) == ()
    assert read_tuning(tmp_path) is None
