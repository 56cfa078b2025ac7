"""What a ref of a git repository stands for now."""

from __future__ import annotations

import os
import re
import subprocess

from provisioner.errors import UpstreamError, UpstreamUnreachableError

TIMEOUT_S = 60
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
    asked = [word for name in names for word in (name, f"{name}^{{}}")]
    found = _listed(_ls_remote(git, asked))
    commit = next((found[name] for name in (*reversed(asked[:2]), *reversed(asked[2:])) if name in found), None)
    if commit is None:
        raise UpstreamError(
            f"{git} has no branch or tag {ref}", hint="check the name; a commit must be written in full, 40 digits"
        )
    return commit


def _ls_remote(git: str, names: list[str]) -> str:
    # No question to a terminal, no ssh that waits for one; credential helpers and keys are the operator's own.
    env = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    env.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--", git, *names],
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise UpstreamError("git is not on this machine, which asks for commits with it", hint="install git") from error
    except subprocess.TimeoutExpired as error:
        raise UpstreamUnreachableError(
            f"{git} did not answer within {TIMEOUT_S} s", hint="does `git ls-remote` of it work on this machine?"
        ) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split())[-300:]
        kind = UpstreamUnreachableError if _UNREACHABLE.search(words) else UpstreamError
        raise kind(f"{git} cannot be asked: {words}", hint="does `git ls-remote` of it work on this machine?")
    return done.stdout


def _listed(text: str) -> dict[str, str]:
    """`git ls-remote` → ref: object."""
    return {name: commit for commit, _, name in (line.partition("\t") for line in text.splitlines())}
