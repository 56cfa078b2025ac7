from __future__ import annotations

from itertools import pairwise, product
from math import prod

import pytest
from builders import facts, fleet, plan, server
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import UsageError
from provisioner.fleet.models import Benchmark
from provisioner.plan.tuning import (
    LEAST_S,
    MOST,
    SETTINGS,
    Axis,
    Candidate,
    candidates,
    default_axes,
    gpus_used,
    parse_axis,
    point_key,
    seconds_of,
    share_s,
    spread,
    tuned,
    tuned_fleet,
)

AXES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(
    lambda sizes: [Axis(key=f"--k{index}", values=tuple(range(size))) for index, size in enumerate(sizes)]
)


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("max-num-seqs=8,16", "max_num_seqs", (8, 16)),
        ("max_num_seqs= 8 , 8 ,16", "max_num_seqs", (8, 16)),
        ("--gpu-memory-utilization=0.8,0.9", "gpu_memory_utilization", (0.8, 0.9)),
        ("mamba-ssm-cache-dtype=float16,float32", "mamba_ssm_cache_dtype", ("float16", "float32")),
        ("async-scheduling=true,false", "async_scheduling", (True, False)),
        ("max-num-batched-tokens=2048,8192", "--max-num-batched-tokens", (2048, 8192)),
    ],
)
def test_axes(text: str, key: str, values: tuple[object, ...]) -> None:
    assert parse_axis(text) == Axis(key=key, values=values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max-num-seqs",
            "--sweep max-num-seqs: expected NAME=VALUE,VALUE…\n  hint: for example --sweep max-num-seqs=8,16,32",
        ),
        (
            "max-num-seqs=8,",
            "--sweep max-num-seqs=8,: expected NAME=VALUE,VALUE…\n  hint: for example --sweep max-num-seqs=8,16,32",
        ),
        ("max-num-seqs=0", "--sweep max-num-seqs=0: '0': input should be greater than or equal to 1"),
        ("max-num-seqs=some", "--sweep max-num-seqs=some: 'some': input should be a valid integer"),
        ("max-num-seqs=[8]", "--sweep max-num-seqs=[8]: '[8]' is no single value"),
        (
            "max-num-sequences=8",
            '--sweep max-num-sequences=8: vllm serve has no --max-num-sequences\n  hint: did you mean "max-num-seqs"?',
        ),
        ("port=8001", "--sweep port=8001: port does not change how fast a server is"),
        ("api-key=x", "--sweep api-key=x: api-key does not change how fast a server is"),
        (
            "concurrency=8",
            "--sweep concurrency=8: requests in flight are no setting of the server\n  hint: use --concurrency",
        ),
    ],
)
def test_wrong_axes(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_axis(text)
    assert str(caught.value) == message


@given(st.text(max_size=30))
def test_any_text_is_an_axis_or_told(text: str) -> None:
    try:
        axis = parse_axis(text)
    except UsageError:
        return
    assert axis.values
    assert axis.key in SETTINGS or axis.key.startswith("--")


@given(AXES)
def test_every_combination_is_tried_once(axes: list[Axis]) -> None:
    found = spread(axes)
    assert sorted(found) == sorted(product(*(axis.values for axis in axes)))


@given(AXES)
def test_the_first_ones_cover_the_whole(axes: list[Axis]) -> None:
    """The second is a corner opposite the first, whatever else there is."""
    found = spread(axes)
    opposite = tuple(axis.values[-1] for axis in axes)
    assert found[0] == tuple(axis.values[0] for axis in axes)
    if len(found) > 1:
        assert found[1] == opposite


@given(AXES, st.lists(st.integers(1, 64), unique=True, max_size=3))
def test_points_of_one_server_stand_together(axes: list[Axis], counts: list[int]) -> None:
    if (1 + prod(len(axis.values) for axis in axes)) * max(len(counts), 1) > MOST:
        with pytest.raises(UsageError, match=f"at most {MOST}"):
            candidates(axes, counts)
        return
    found = candidates(axes, counts)
    assert len(set(found)) == len(found) <= MOST
    assert found[0].settings == ()
    servers = [one.settings for one in found]
    changes = sum(before != after for before, after in pairwise(servers))
    assert changes == len(set(servers)) - 1
    assert {one.concurrency for one in found} == (set(counts) or {None})


def test_too_many_points() -> None:
    axes = [Axis(key=f"--k{index}", values=tuple(range(15))) for index in range(2)]
    with pytest.raises(UsageError, match="226 points to measure, at most 200"):
        candidates(axes, [])


@pytest.mark.parametrize(
    ("usual", "gpus", "batches", "sizes"),
    [
        (1024, 8, (1024, 256, 64, 16), (1, 2, 4, 8)),
        (256, 6, (256, 64, 16, 4), (1, 2, 4)),
        (8, 1, (32, 16, 8, 4), ()),
        (1, 1, (4, 2, 1), ()),
    ],
)
def test_what_is_tried_by_default(usual: int, gpus: int, batches: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    found = {axis.key: axis.values for axis in default_axes(usual, gpus)}
    assert found == ({"tensor_parallel_size": sizes} if sizes else {}) | {"max_num_seqs": batches}


def test_settings_become_keys_and_other_flags_extra_arguments() -> None:
    before = server(extra_args=("--max-num-seqs", "4", "--enforce-eager"), benchmark=Benchmark(num_prompts=9))
    wanted = Candidate(settings=(("max_num_seqs", 16), ("--max-num-batched-tokens", 2048), ("--enforce-eager", False)))
    after = tuned(before, wanted, 30)
    assert after.max_num_seqs == 16
    assert after.extra_args == ("--max-num-batched-tokens", "2048", "--no-enforce-eager")
    assert (after.benchmark.num_prompts, after.benchmark.time_budget_s) == (None, 30)
    assert after.model_copy(update={"max_num_seqs": None, "extra_args": (), "benchmark": None}) == before.model_copy(
        update={"extra_args": (), "benchmark": None}
    )


@pytest.mark.parametrize(
    ("candidate", "concurrency"),
    [
        (Candidate(), 32),
        (Candidate(concurrency=4), 4),
        (Candidate(settings=(("max_num_seqs", 16),)), None),
        (Candidate(settings=(("max_num_seqs", 16),), concurrency=4), 4),
        (Candidate(settings=(("max_model_len", 2048),)), 32),
    ],
)
def test_requests_in_flight_follow_the_batch_where_that_is_tried(candidate: Candidate, concurrency: int | None) -> None:
    after = tuned(server(benchmark=Benchmark(max_concurrency=32)), candidate, 30)
    assert after.benchmark.max_concurrency == concurrency


def test_only_the_one_server_on_the_one_host_is_tuned() -> None:
    before = fleet(server("a"), server("b", port=8001), hosts=("gpu-01", "gpu-02"))
    after = tuned_fleet(before, "gpu-01", "b", Candidate(settings=(("max_num_seqs", 2),)), 30)
    changed = [
        (host.name, one.name)
        for host in after.hosts
        for one, old in zip(after.servers_on(host.name), before.servers_on(host.name), strict=True)
        if one != old
    ]
    assert changed == [("gpu-01", "b")]


@given(st.integers(1, 100_000), st.integers(0, MOST))
def test_benchmarks_get_half_of_the_time(budget: int, points: int) -> None:
    share = share_s(budget, points)
    assert share >= LEAST_S
    assert share == LEAST_S or share * points <= budget / 2


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("45", 45), (" 5 m ", 300)])
def test_times(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "soon", "-5m", "1.5h", "30d"])
def test_wrong_times(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected a time such as 90s, 30m or 2h"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("argv", "used"),
    [
        ((), 1),
        (("--tensor-parallel-size", "2"), 2),
        (("--tensor-parallel-size=2", "--data-parallel-size", "2"), 4),
        (("--tensor-parallel-size", "64"), 8),
    ],
)
def test_gpus_that_a_server_uses(argv: tuple[str, ...], used: int) -> None:
    one = plan().servers[0].model_copy(update={"gpu_count": 8, "argv": argv})
    assert gpus_used(one) == used


def test_a_point_is_known_by_its_plan_load_driver_and_image() -> None:
    def key(driver: str = "580", image: str = "sha256:a", seconds: int = 30, **settings: object) -> str:
        one = plan(fleet(tuned(server(**settings), Candidate(), seconds)), facts())
        return point_key(one, one.servers[0], driver, image)

    known = key()
    assert key(seconds=600) == known
    assert key(slo={"default": ("output_throughput >= 1",)}) == known
    others = [key(driver="590"), key(image="sha256:b"), key(max_num_seqs=8), key(benchmark=Benchmark(seed=3))]
    assert known not in others
    assert len(set(others)) == len(others)
