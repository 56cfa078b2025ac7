"""What a ref of a git repository stands for now."""

from __future__ import annotations

import os
import re
import signal
import subprocess

from provisioner.errors import UpstreamError, UpstreamUnreachableError
from provisioner.plan.lock import public

TIMEOUT_S = 60
_TRY = "does `git ls-remote` of it work on this machine?"
_UNREACHABLE = re.compile(
    r"could not resolve host|connection (refused|timed out|reset)|unable to connect|no route to host|failed to connect",
    re.IGNORECASE,
)


def commit_of(git: str, ref: str) -> str:
    """The commit of a branch, else of a tag, as `git checkout` on a host would choose.

    UpstreamError when the repository has no such ref or refuses to tell, UpstreamUnreachableError when it is silent.
    """
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    # An annotated tag is an object of its own: the commit behind it is listed with ^{}.
    wanted = [f"{name}{end}" for name in names for end in ("^{}", "")]
    found = _listed(_ls_remote(git, wanted))
    commit = next((found[name] for name in wanted if name in found), None)
    if commit is None:
        raise UpstreamError(
            f"{public(git)} has no branch or tag {ref}",
            hint="check the name; a commit must be written in full, 40 digits",
        )
    return commit


def _ls_remote(git: str, names: list[str]) -> str:
    # No question to a terminal, no ssh that waits for one; credential helpers and keys are the operator's own.
    env = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    env.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        process = subprocess.Popen(
            ["git", "ls-remote", "--", git, *names],
            env=env,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise UpstreamError("git is not on this machine, which asks for commits with it", hint="install git") from error
    with process:
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # its helpers too: they hold the pipes
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise UpstreamUnreachableError(f"{public(git)} did not answer within {TIMEOUT_S} s", hint=_TRY) from error
    if process.returncode != 0:
        words = public(" ".join(err.split()))[-300:]
        kind = UpstreamUnreachableError if _UNREACHABLE.search(words) else UpstreamError
        raise kind(f"{public(git)} cannot be asked: {words}", hint=_TRY)
    return out


def _listed(text: str) -> dict[str, str]:
    """`git ls-remote` → ref: object."""
    return {name: commit for commit, _, name in (line.partition("\t") for line in text.splitlines())}
