"""A server's settings → the arguments of `vllm serve`."""

from __future__ import annotations

from provisioner.fleet.models import Server
from provisioner.fleet.recipe_models import Recipe, Untuned
from provisioner.fleet.recipes import Command
from provisioner.plan import flags

_PLUGIN, _PARSER = "--reasoning-parser-plugin", "--reasoning-parser"
_TOKENIZER = "--tokenizer-revision"


def server_argv(server: Server, command: Command) -> tuple[str, ...]:
    """The recipe's arguments, then the server's settings in place of or after them, extra arguments last."""
    argv: tuple[str, ...] = command.argv
    if _other_parser(server, command):
        argv = flags.drop_flag(argv, _PLUGIN)
    settings: dict[str, str | int | float | None] = {
        "--tensor-parallel-size": server.tensor_parallel_size,
        "--max-num-seqs": server.max_num_seqs,
        "--max-model-len": server.max_model_len,
        "--gpu-memory-utilization": server.gpu_memory_utilization,
        "--kv-cache-dtype": server.kv_cache_dtype,
        "--mamba-ssm-cache-dtype": server.mamba_ssm_cache_dtype,
        "--tool-call-parser": server.tool_call_parser,
        _PLUGIN: server.reasoning_parser_plugin,
        _PARSER: server.reasoning_parser,
        "--served-model-name": server.served_model_name,
        "--host": server.host,
        "--port": server.port,
    }
    for flag, value in settings.items():
        if value is not None:
            argv = flags.set_flag(argv, flag, str(value))
    switches = {
        "--trust-remote-code": server.trust_remote_code,
        "--enable-auto-tool-choice": server.enable_auto_tool_choice,
    }
    for flag, on in switches.items():
        if on is not None:
            argv = flags.set_flag(argv, flag) if on else flags.drop_flag(argv, flag)
    if server.async_scheduling is not None:
        # Off must be said: newer versions turn it on by themselves.
        argv = flags.drop_flag(argv, "--async-scheduling")
        argv = (*argv, "--async-scheduling" if server.async_scheduling else "--no-async-scheduling")
    return (*argv, *server.extra_args)


def at_commit(argv: tuple[str, ...], commit: str) -> tuple[str, ...]:
    """The arguments with the model served at one commit.

    Servers run offline, and a commit that was downloaded by its own name is in no branch of the cache. Code of the
    model (--trust-remote-code) comes from the same commit: offline, vLLM serves the folder that --revision names.
    """
    # vLLM would look for the commit in another tokenizer's repository too.
    tokenizer = "main" if flags.any_flag(argv, "--tokenizer") else commit
    argv = flags.set_flag(argv, "--revision", commit)
    return argv if flags.any_flag(argv, _TOKENIZER) else flags.set_flag(argv, _TOKENIZER, tokenizer)


def untuned(recipe: Recipe, command: Command, argv: tuple[str, ...]) -> tuple[str, ...]:
    """A warning for each flag that should keep its value and was given another one, with the reason."""
    return tuple(
        f"{entry.flag}: {there or 'off'}, where {recommended or 'off'} is recommended ({entry.reason})"
        for entry in recipe.provision.do_not_tune
        for recommended in (entry.recommended.get(command.precision, entry.recommended.get("default")),)
        for there in (_value(entry, argv),)
        if there not in (recommended, _value(entry, command.argv))
    )


def _value(entry: Untuned, argv: tuple[str, ...]) -> str | None:
    """What the flag is set to; `true` or `false` for one without a value, None where it is not there."""
    negative = "--no-" + entry.flag.removeprefix("--")
    last = next((word for word in reversed(argv) if word.partition("=")[0] in (entry.flag, negative)), None)
    if last is None:
        return None
    return "false" if last == negative else flags.value_of(argv, entry.flag) or "true"


def _other_parser(server: Server, command: Command) -> bool:
    """Whether the recipe's plugin has nothing to do, because the fleet file names a parser that is not in it."""
    return (
        server.reasoning_parser not in (None, flags.value_of(command.argv, _PARSER))
        and server.reasoning_parser_plugin is None
    )
