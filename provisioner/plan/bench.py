"""`vllm bench serve` of a server: the guide's run_performance.sh, scaled to what the host serves."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.fleet.metrics import LATENCIES, latency_of, percentile_of
from provisioner.fleet.models import Benchmark as Settings
from provisioner.fleet.slo import Objective
from provisioner.plan import flags
from provisioner.plan.docker_run import snapshot
from provisioner.plan.model import Benchmark, Calibration

GUIDE_INPUT_LEN = 1024
GUIDE_OUTPUT_LEN = 1024
GUIDE_WARMUPS = 20
GUIDE_CONCURRENCY = 1024
GUIDE_PROMPTS = 2048
PROMPTS_PER_STREAM = 5
"""the guide: at least five times the concurrency to measure the steady state"""
TIME_BUDGET_S = 600
"""where the guide's own figures do not apply: a slow host need not be measured for an hour"""
CALIBRATION_OUTPUT_LEN = 64
RANDOM = "random"
RESULTS_DIR = "/results"
RESULT_FILE = "vllm_benchmark_serving_results.json"
_ALWAYS = ("ttft", "tpot", "itl")
"""what every report shows"""
_PERCENTILE = 99.0
_SMALL_GPU_SEQS = 256
_LARGE_GPU_GB = 70 * 2**30 / 1e9


def default_max_num_seqs(gpu_name: str, gpu_gb: float) -> int:
    """vLLM's own max_num_seqs: 1024 on GPUs of 70 GiB and more, A100s excepted, else 256 (0.11.2 to 0.33)."""
    return GUIDE_CONCURRENCY if gpu_gb >= _LARGE_GPU_GB and "a100" not in gpu_name.lower() else _SMALL_GPU_SEQS


def benchmark(
    settings: Settings,
    *,
    model_id: str,
    served_model_name: str,
    connect_to: str,
    port: int,
    trust_remote_code: bool,
    max_num_seqs: int,
    max_model_len: int | None,
    slo: Sequence[Objective] = (),
    mounts: Sequence[str] = (),
    commit: str | None = None,
) -> Benchmark:
    """The guide's figures, unless the server takes fewer sequences or shorter ones; every figure can be set.

    `commit`: of the model, where it is served at one.
    """
    concurrency = settings.max_concurrency or min(max_num_seqs, GUIDE_CONCURRENCY)
    as_in_guide = concurrency == GUIDE_CONCURRENCY
    prompts = settings.num_prompts or (GUIDE_PROMPTS if as_in_guide else PROMPTS_PER_STREAM * concurrency)
    output_len = settings.random_output_len or _share(max_model_len, GUIDE_OUTPUT_LEN)
    warmups = settings.num_warmups if settings.num_warmups is not None else min(GUIDE_WARMUPS, prompts)
    argv = ["bench", "serve", "--host", connect_to, "--port", str(port), "--model", model_id]
    if served_model_name != model_id:
        argv += ["--served-model-name", served_model_name]
    if trust_remote_code:
        argv += ["--trust-remote-code"]
    if commit and not flags.any_flag(settings.extra_args, "--tokenizer"):
        argv += ["--tokenizer", snapshot(model_id, commit)]  # the client knows no revisions, and is offline
    argv += _dataset(settings, _share(max_model_len, GUIDE_INPUT_LEN), output_len)
    argv += ["--num-warmups", str(warmups), *(["--ignore-eos"] if settings.ignore_eos else [])]
    argv += ["--max-concurrency", str(concurrency), "--num-prompts", str(prompts), *_load(settings)]
    # 0.32 skips the wait for readiness by default and 0.12 reports no E2EL unless asked: say both.
    argv += ["--ready-check-timeout-sec", str(settings.ready_check_timeout_s), *_report(settings, slo)]
    argv += ["--save-result", "--result-dir", RESULTS_DIR, "--result-filename", RESULT_FILE, *settings.extra_args]
    random = settings.dataset_name == RANDOM and settings.ignore_eos
    exact = output_len if random and not settings.random_range_ratio else None
    chosen = settings.num_prompts is not None or as_in_guide
    budget = settings.time_budget_s or (None if chosen else TIME_BUDGET_S)
    return Benchmark(
        argv=tuple(argv),
        num_prompts=prompts,
        output_len=exact,
        timeout_s=settings.timeout_s,
        mounts=tuple(mounts),
        calibration=_calibration(argv, concurrency, warmups, exact, budget)
        if budget and prompts > concurrency
        else None,
    )


def _calibration(
    argv: Sequence[str], concurrency: int, warmups: int, output_len: int | None, budget_s: int
) -> Calibration:
    short = min(CALIBRATION_OUTPUT_LEN, output_len) if output_len is not None else None
    words = flags.set_flag(argv, "--num-prompts", str(concurrency))
    words = flags.set_flag(words, "--num-warmups", str(min(warmups, concurrency)))
    # Other prompts than those that are measured next, which the server would otherwise have in its prefix cache.
    seed = flags.value_of(argv, "--seed") or "0"
    words = flags.set_flag(words, "--seed", str(int(seed) + 1 if seed.isdecimal() else 1))
    if short is not None:
        words = flags.set_flag(words, "--random-output-len", str(short))
    return Calibration(argv=words, concurrency=concurrency, output_len=short, budget_s=budget_s)


def _dataset(settings: Settings, input_len: int, output_len: int) -> list[str]:
    words = ["--dataset-name", settings.dataset_name]
    if settings.dataset_path:
        words += ["--dataset-path", settings.dataset_path]
    if settings.dataset_name != RANDOM:
        return words
    words += ["--random-input-len", str(settings.random_input_len or input_len)]
    words += ["--random-output-len", str(output_len)]
    words += _given("--random-range-ratio", settings.random_range_ratio)
    return words + _given("--random-prefix-len", settings.random_prefix_len)


def _load(settings: Settings) -> list[str]:
    given = {
        "--request-rate": settings.request_rate,
        "--burstiness": settings.burstiness,
        "--seed": settings.seed,
    }
    return [word for flag, value in given.items() for word in _given(flag, value)]


def _report(settings: Settings, slo: Sequence[Objective]) -> list[str]:
    asked = {latency_of(one.metric) for one in slo} | {*_ALWAYS, *settings.percentile_metrics}
    words = ["--percentile-metrics", ",".join(name for name in LATENCIES if name in asked)]
    found = [percentile_of(one.metric) for one in slo]
    percentiles = {_PERCENTILE, *settings.metric_percentiles, *(one[1] for one in found if one)}
    if percentiles != {_PERCENTILE}:
        words += ["--metric-percentiles", ",".join(f"{value:g}" for value in sorted(percentiles))]
    limits = settings.goodput.model_dump(exclude_none=True)
    if limits:
        words += ["--goodput", *(f"{metric}:{limit:g}" for metric, limit in limits.items())]
    return words


def _given(flag: str, value: float | None) -> list[str]:
    return [] if value is None else [flag, f"{value:g}" if isinstance(value, float) else str(value)]


def _share(max_model_len: int | None, guide: int) -> int:
    # A quarter each leaves room for the chat template and for the random dataset's spread.
    return guide if max_model_len is None else max(1, min(guide, max_model_len // 4))
