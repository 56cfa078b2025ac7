"""`vllm bench serve` of a server: the guide's run_performance.sh, scaled to what the host serves."""

from __future__ import annotations

from provisioner.fleet.models import Benchmark as Settings
from provisioner.plan.docker_run import snapshot
from provisioner.plan.flags import any_flag
from provisioner.plan.model import Benchmark

GUIDE_INPUT_LEN = 1024
GUIDE_OUTPUT_LEN = 1024
GUIDE_WARMUPS = 20
GUIDE_CONCURRENCY = 1024
GUIDE_PROMPTS = 2048
PROMPTS_PER_STREAM = 5
"""the guide: at least five times the concurrency to measure the steady state"""
RANDOM = "random"
RESULTS_DIR = "/results"
RESULT_FILE = "vllm_benchmark_serving_results.json"


def benchmark(
    settings: Settings,
    *,
    model_id: str,
    served_model_name: str,
    connect_to: str,
    port: int,
    trust_remote_code: bool,
    max_num_seqs: int | None,
    max_model_len: int | None,
    commit: str | None = None,
) -> Benchmark:
    """The guide's figures, unless the server takes fewer sequences or shorter ones; every figure can be set.

    `commit`: of the model, where it is served at one.
    """
    concurrency = settings.max_concurrency or min(max_num_seqs or GUIDE_CONCURRENCY, GUIDE_CONCURRENCY)
    prompts = settings.num_prompts or (
        GUIDE_PROMPTS if concurrency == GUIDE_CONCURRENCY else PROMPTS_PER_STREAM * concurrency
    )
    output_len = settings.random_output_len or _share(max_model_len, GUIDE_OUTPUT_LEN)
    warmups = settings.num_warmups if settings.num_warmups is not None else min(GUIDE_WARMUPS, prompts)
    argv = ["bench", "serve", "--host", connect_to, "--port", str(port), "--model", model_id]
    if served_model_name != model_id:
        argv += ["--served-model-name", served_model_name]
    if trust_remote_code:
        argv += ["--trust-remote-code"]
    if commit and not any_flag(settings.extra_args, "--tokenizer"):
        argv += ["--tokenizer", snapshot(model_id, commit)]  # the client knows no revisions, and is offline
    argv += _dataset(settings, _share(max_model_len, GUIDE_INPUT_LEN), output_len)
    argv += ["--num-warmups", str(warmups), *(["--ignore-eos"] if settings.ignore_eos else [])]
    argv += ["--max-concurrency", str(concurrency), "--num-prompts", str(prompts), *_load(settings)]
    # 0.32 skips the wait for readiness by default and 0.12 reports no E2EL unless asked: say both.
    argv += ["--ready-check-timeout-sec", str(settings.ready_check_timeout_s), *_report(settings)]
    argv += ["--save-result", "--result-dir", RESULTS_DIR, "--result-filename", RESULT_FILE, *settings.extra_args]
    exact = settings.dataset_name == RANDOM and settings.ignore_eos and not settings.random_range_ratio
    return Benchmark(
        argv=tuple(argv),
        num_prompts=prompts,
        output_len=output_len if exact else None,
        timeout_s=settings.timeout_s,
    )


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


def _report(settings: Settings) -> list[str]:
    words = ["--percentile-metrics", ",".join(settings.percentile_metrics)]
    if settings.metric_percentiles:
        words += ["--metric-percentiles", ",".join(f"{value:g}" for value in settings.metric_percentiles)]
    limits = settings.goodput.model_dump(exclude_none=True)
    if limits:
        words += ["--goodput", *(f"{metric}:{limit:g}" for metric, limit in limits.items())]
    return words


def _given(flag: str, value: float | None) -> list[str]:
    return [] if value is None else [flag, f"{value:g}" if isinstance(value, float) else str(value)]


def _share(max_model_len: int | None, guide: int) -> int:
    # A quarter each leaves room for the chat template and for the random dataset's spread.
    return guide if max_model_len is None else max(1, min(guide, max_model_len // 4))
