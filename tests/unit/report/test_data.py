from __future__ import annotations

import json
import math

from reports import THREE, host, measurement, report, result, verdict

from provisioner.report.data import to_json


def test_everything_is_there() -> None:
    document = json.loads(to_json(report(host(measured=(measurement(1000, 0), measurement(900, 1))))))
    (found,) = document["hosts"]
    assert document["run"]["id"] == "20261124T120000Z-abc123"
    assert document["passed"] is True
    assert found["state"] == "passed"
    assert found["driver"] == "580.95.05"
    assert found["servers"][0]["interactivity"] == 100
    assert found["servers"][0]["benchmark"]["raw"]["max_concurrency"] == 8
    assert math.isclose(found["trends"][0]["change"], -0.1)
    assert found["changes"][0]["reason"] == "is not there"
    assert [phase["phase"] for phase in found["phases"]] == ["apply", "health", "benchmark"]


def test_what_is_no_number_is_null() -> None:
    broken = verdict().model_copy(update={"benchmark": result(math.nan, raw={"x": [math.inf, 1]})})
    document = json.loads(to_json(report(host("gpu-01", broken))))
    assert document["hosts"][0]["servers"][0]["benchmark"]["output_throughput"] is None
    assert document["hosts"][0]["servers"][0]["benchmark"]["raw"]["x"] == [None, 1]
    assert "NaN" not in to_json(report(host("gpu-01", broken)))


def test_a_tuning() -> None:
    assert json.loads(to_json(report()))["tuning"] is None
    found = json.loads(to_json(report(tuning=THREE)))["tuning"]
    assert found["choices"] == {"throughput": "max_num_seqs 64", "latency": "max_num_seqs 8"}
