"""Whether a server's weights, KV cache and Mamba state fit the GPUs: an estimate, before anything is started.

A GPU's share (`gpu_memory_utilization`) minus weights and working memory is the pool that requests live in. A pool too
small for one request of `max_model_len` is an error (vLLM refuses to start); one too small for `max_num_seqs` requests
of the guide's length (1024 + 1024 tokens) at once is a warning, as they would wait for each other.
"""

from __future__ import annotations

from provisioner.fleet.base import Frozen
from provisioner.fleet.recipe_models import Memory

GB = 1e9
WORKING_GB = 3.0
"""GB of a GPU for activations, CUDA graphs and context. An estimate, on the low side: an error must be sure."""
USUAL_TOKENS = 2048
"""tokens of the guide's benchmark: 1024 in, 1024 out"""
BIG_GPU_GB = 70 * 1.073741824
"""vLLM's default of max_num_seqs is 1024 from 70 GiB on, else 256 (engine/arg_utils.py of 0.12.0)"""
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2, "nvfp4": 0.5}


class Request(Frozen):
    """What a server would take."""

    variant: str
    needed_gb: float
    """the recipe's vram_minimum_gb; 0 where it does not say"""
    memory: Memory | None
    gpu_gb: float
    """memory of one GPU"""
    gpus: int
    """GPUs that the model is spread over"""
    utilization: float
    max_model_len: int | None
    max_num_seqs: int | None
    kv_cache_dtype: str
    mamba_dtype: str
    """of the state; what is not a type's name counts as float32"""


class Fit(Frozen):
    """The estimate, decimal GB and for one GPU."""

    share_gb: float
    weights_gb: float
    pool_gb: float | None = None
    """for requests; None where the recipe does not describe the model"""
    token_bytes: float = 0
    state_bytes: float = 0
    """of one request"""
    sequences: int | None = None
    """requests of the usual length that the pool holds"""
    error: str | None = None
    warning: str | None = None


def estimate(request: Request) -> Fit:
    """Raises nothing: what does not fit is said in `error`, what is tight in `warning`."""
    share = request.gpu_gb * request.utilization
    memory = request.memory
    if memory is None:
        return _by_minimum(request, share)
    weights = memory.weights_gb.get(request.variant, request.needed_gb) / request.gpus
    pool = share - weights - WORKING_GB
    token, state = _token_bytes(request, memory), _state_bytes(request, memory)
    sequences = max(0, int(pool * GB / (token * USUAL_TOKENS + state)))
    fit = Fit(
        share_gb=share,
        weights_gb=weights,
        pool_gb=pool,
        token_bytes=token,
        state_bytes=state,
        sequences=sequences,
    )
    length = request.max_model_len or USUAL_TOKENS
    one = (token * length + state) / GB
    if pool < one:
        return fit.model_copy(update={"error": _does_not_fit(request, fit, one, length)})
    wanted = request.max_num_seqs or (1024 if request.gpu_gb >= BIG_GPU_GB else 256)
    length = min(length, USUAL_TOKENS) if request.max_model_len else USUAL_TOKENS
    room = int(pool * GB / (token * length + state))
    if room >= wanted:
        return fit
    text = (
        f"memory is tight: {pool:.1f} GB for requests hold about {room} of {length} tokens each, and max_num_seqs is "
        f"{wanted}{'' if request.max_num_seqs else ' by default'}; {_smaller(room)}"
    )
    return fit.model_copy(update={"warning": text})


def _by_minimum(request: Request, share: float) -> Fit:
    total = request.gpu_gb * request.gpus
    fit = Fit(share_gb=share, weights_gb=request.needed_gb / request.gpus)
    if request.needed_gb <= total:
        return fit
    error = (
        f"does not fit: the recipe asks for {request.needed_gb:g} GB of GPU memory and {_gpus(request)} "
        f"{'has' if request.gpus == 1 else 'have'} {total:.0f} GB; use another variant or more GPUs"
    )
    return fit.model_copy(update={"error": error})


def _token_bytes(request: Request, memory: Memory) -> float:
    """Keys and values of one token on one GPU; KV heads are copied where there are fewer than GPUs."""
    heads = max(1, memory.kv_heads // request.gpus)
    element = 1 if request.kv_cache_dtype.startswith("fp8") else _BYTES.get(request.kv_cache_dtype, 2)
    return memory.attention_layers * 2 * heads * memory.head_dim * element


def _state_bytes(request: Request, memory: Memory) -> float:
    """Mamba-2's state of one request on one GPU: the SSM state, and the convolution's last inputs in 16 bits."""
    mamba = memory.mamba
    if mamba is None:
        return 0
    ssm = mamba.heads * mamba.head_dim * mamba.state * _BYTES.get(request.mamba_dtype, 4)
    convolution = (mamba.conv_kernel - 1) * (mamba.heads * mamba.head_dim + 2 * mamba.groups * mamba.state) * 2
    return mamba.layers * (ssm + convolution) / request.gpus


def _does_not_fit(request: Request, fit: Fit, one: float, length: int) -> str:
    ways = []
    if fit.pool_gb is not None and fit.pool_gb > fit.state_bytes / GB and request.max_model_len:
        fits = int((fit.pool_gb * GB - fit.state_bytes) / fit.token_bytes)
        ways.append(f"max_model_len {fits} or less")
    ways += ["another variant", "more GPUs (tensor_parallel_size)"]
    if request.utilization < 0.9:
        ways.append("a larger gpu_memory_utilization")
    return (
        f"does not fit: {fit.weights_gb:.1f} GB of weights, {WORKING_GB:.1f} GB to work in and {one:.1f} GB for a "
        f"request of {length} tokens, against {fit.share_gb:.1f} GB "
        f"({request.utilization:g} of {request.gpu_gb:.1f} GB) on {_gpus(request)}; use {', '.join(ways)}"
    )


def _smaller(room: int) -> str:
    ways = [f"set max_num_seqs to {max(1, room)} or less"] if room else []
    return ", ".join([*ways, "use a smaller variant or more GPUs (tensor_parallel_size)"])


def _gpus(request: Request) -> str:
    return "1 GPU" if request.gpus == 1 else f"each of {request.gpus} GPUs"
