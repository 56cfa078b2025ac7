from __future__ import annotations

import json
import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import fleet, plan, server
from reports import HOSTILE, NOON, result, verdict

from provisioner.errors import UsageError
from provisioner.report.monitoring.files import monitoring_files, stale, write
from provisioner.report.monitoring.grafana import dashboard
from provisioner.report.monitoring.rules import rules_text
from provisioner.report.monitoring.served import LastVerdict, newest, selector, served
from provisioner.report.monitoring.targets import target_files
from provisioner.report.monitoring.textfile import textfile

RECORDED = Path(__file__).parents[3] / "recorded" / "metrics" / "vllm-0.32.txt"
OURS = "provision_server_passed provision_benchmark_output_tokens_per_second".split()  # noqa: SIM905 - names
PROMETHEUS_OWN = {"up", "ALERTS"}


def last(output: float | None = 1000.0, hours: int = 0, **changes: Any) -> LastVerdict:
    of = verdict(output=output, **changes)
    return LastVerdict(fleet="lab", at=NOON + timedelta(hours=hours), verdict=of, driver="580.1")


def expressions() -> list[str]:
    rules = [rule["expr"] for group in yaml.safe_load(rules_text("lab"))["groups"] for rule in group["rules"]]
    panels = [target["expr"] for panel in json.loads(dashboard())["panels"] for target in panel["targets"]]
    return rules + panels


def test_servers_that_only_their_host_reaches_have_files_of_their_own() -> None:
    wide = plan(fleet(server(host="0.0.0.0"), server("inside", port=8001)))
    files = {name: json.loads(text) for name, text in target_files(served("lab", wide, "10.0.0.5")).items()}
    labels = {"fleet": "lab", "host": "gpu-01", "hardware": "h200", "variant": "fp8"}
    assert files == {
        "targets/vllm.json": [
            {"targets": ["10.0.0.5:8000"], "labels": {**labels, "server": "nemotron", "bound": "network"}}
        ],
        "targets/loopback/gpu-01.json": [
            {"targets": ["127.0.0.1:8001"], "labels": {**labels, "server": "inside", "bound": "loopback"}}
        ],
    }


def test_an_address_that_the_server_alone_listens_at_is_where_it_is_found() -> None:
    (one,) = served("lab", plan(fleet(server(host="2001:db8::7"))), "gpu-01.example.com")
    assert one.target == "[2001:db8::7]:8000"


def test_a_fleet_of_loopback_servers_has_an_empty_target_file() -> None:
    assert json.loads(target_files(served("lab", plan(), "gpu-01"))["targets/vllm.json"]) == []


def test_the_newest_verdict_of_each_server_counts() -> None:
    seen = [last(hours=2, passed=False), last(hours=1), last(hours=0, host="gpu-00")]
    assert [(one.verdict.host, one.at.hour) for one in newest(seen)] == [("gpu-00", 12), ("gpu-01", 14)]


def test_last_verdicts_and_figures_as_metrics() -> None:
    text = textfile([last(1000.0), last(None, host="gpu-02", passed=False, image=None)])
    where = 'fleet="lab",host="gpu-01",server="nemotron"'
    for line in (
        "# TYPE provision_server_passed gauge",
        f"provision_server_passed{{{where}}} 1.0",
        'provision_server_passed{fleet="lab",host="gpu-02",server="nemotron"} 0.0',
        f"provision_server_validated_timestamp_seconds{{{where}}} {NOON.timestamp()!r}",
        f'provision_server_info{{{where},hardware="h200",simulated="false",model="nvidia/Tiny",variant="fp8",'
        'engine="vLLM 0.12.0",image="aaaaaaaaaaaa",driver="580.1"} 1.0',
        f"provision_benchmark_output_tokens_per_second{{{where}}} 1000.0",
        f'provision_benchmark_ttft_seconds{{{where},stat="p99"}} 0.08',
    ):
        assert line in text.splitlines()
    assert "e2el" not in text
    assert text.count("provision_benchmark_gpus{") == 1


def test_values_are_data_and_what_is_no_number_has_no_series() -> None:
    broken = last().model_copy(update={"verdict": verdict(model=f'a"\\\n{HOSTILE}').model_copy(
        update={"benchmark": result(math.nan)})})  # fmt: skip
    text = textfile([broken])
    assert 'model="a\\"\\\\\\n</pre>' in text
    assert not re.search(r"(?m)^provision_benchmark_output", text)
    assert selector('a"b\\') == '{fleet="a\\"b\\\\"}'
    assert 'fleet="a\\"b"' in yaml.safe_load(rules_text('a"b'))["groups"][0]["rules"][0]["expr"]


def test_every_metric_that_is_asked_for_exists() -> None:
    recorded = set(re.findall(r"(?m)^([a-z0-9_:]+)\{", RECORDED.read_text()))
    words = {"by", "le", "rate", "sum", "max", "increase", "delta", "histogram_quantile", "min_over_time", "and"}
    asked = set()
    for expr in expressions():
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", expr)
        asked |= set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]+", bare)) - words
    assert asked - recorded - PROMETHEUS_OWN == set(OURS)
    emitted = textfile([last()])
    assert all(f"\n{name}{{" in emitted for name in OURS)


def test_the_dashboard_is_whole() -> None:
    board = json.loads(dashboard())
    places = [panel["gridPos"] for panel in board["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert [one["name"] for one in board["templating"]["list"]] == ["source", "fleet", "host", "server"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_files_are_replaced_whole_and_only_when_they_change(tmp_path: Path) -> None:
    files = monitoring_files("lab", served("lab", plan(), "gpu-01"), [last()])
    write(tmp_path, files)
    assert {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()} == set(files)
    rules = tmp_path / "rules" / "vllm.yml"
    before = rules.stat().st_ino
    write(tmp_path, files)
    assert rules.stat().st_ino == before
    write(tmp_path, files | {"rules/vllm.yml": "new"})
    assert rules.read_text() == "new"
    old = tmp_path / "targets" / "loopback" / "gone.json"
    old.write_text("[]")
    assert stale(tmp_path, files) == (old,)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("")
    with pytest.raises(UsageError, match=r"rules: cannot be written: File exists"):
        write(tmp_path, {"rules/vllm.yml": ""})
