from __future__ import annotations

from reports import measurement

from provisioner.report.trend import history, mark_text, trend_line, trends


def test_a_series_each_host_and_server_oldest_first() -> None:
    found = trends(
        [measurement(1000, 0), measurement(500, 1, host="gpu-02"), measurement(1100, 2), measurement(9, 3, server="b")]
    )
    assert [(one.host, one.server, one.throughputs) for one in found] == [
        ("gpu-01", "b", (9,)),
        ("gpu-01", "nemotron", (1000, 1100)),
        ("gpu-02", "nemotron", (500,)),
    ]


def test_image_driver_and_vllm_changes_are_marked_where_they_show() -> None:
    (found,) = trends(
        [
            measurement(1000, 0),
            measurement(1000, 1, image="bbbbbbbbbbbb", version="0.13.0"),
            measurement(1000, 2, image="bbbbbbbbbbbb", version="0.13.0", driver="590.1"),
        ]
    )
    assert [(mark.index, mark_text(mark)) for mark in found.marks] == [
        (1, "image aaaaaaaaaaaa → bbbbbbbbbbbb"),
        (1, "vLLM 0.12.0 → 0.13.0"),
        (2, "driver 580.95.05 → 590.1"),
    ]


def test_what_was_not_known_has_not_changed() -> None:
    (found,) = trends([measurement(hour=0, driver=None), measurement(hour=1), measurement(hour=2, driver=None)])
    assert found.marks == ()


def test_other_workloads_are_counted_and_left_out() -> None:
    (found,) = trends([measurement(1, 0, workload="other"), measurement(2, 1), measurement(3, 2)])
    assert found.throughputs == (2, 3)
    assert found.others == 1


def test_a_stand_in_and_other_hardware_are_not_compared_with() -> None:
    (found,) = trends([measurement(1, 0, engine="sim"), measurement(2, 1, hardware="h100"), measurement(3, 2)])
    assert found.throughputs == (3,)
    assert found.others == 2


def test_a_workload_that_is_not_known_is_compared_with_nothing() -> None:
    (found,) = trends([measurement(1, 0, workload=""), measurement(2, 1, workload="")])
    assert found.throughputs == (2,)
    assert found.change is None


def test_in_one_line() -> None:
    (found,) = trends([measurement(1000, 0), measurement(1000, 1), measurement(901, 2, image="bbbbbbbbbbbb")])
    assert trend_line(found) == "▆▆▃  1000 → 901.0 output tok/s (−9.9 %), 3 benchmarks; image changed"
    (alone,) = trends([measurement(1000)])
    assert trend_line(alone) == "1000 output tok/s, 1 benchmark"


def test_for_the_final_table() -> None:
    assert history([measurement(1, 0), measurement(2, 1)]) == {("gpu-01", "nemotron"): (1, 2)}
