"""What a revision of a model repository stands for now, and what one file of it is. Through the hub's own client,
which takes its time to import: import this module where it is used.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi, errors, hf_hub_download, snapshot_download
from huggingface_hub.utils import disable_progress_bars, logging

from provisioner.errors import UpstreamError, UpstreamUnreachableError

HUGGING_FACE = "https://huggingface.co"
TIMEOUT_S = 20
# Besides its own errors, the client lets those of its HTTP library through: another one in each major version.
_FAILURES = (OSError, *(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"))

disable_progress_bars()
logging.set_verbosity_error()


@dataclass(frozen=True)
class Hub:
    """A model hub. `token`: its value, or None for an anonymous look; logins of this machine are not used."""

    endpoint: str = HUGGING_FACE
    token: str | None = field(default=None, repr=False)

    def commit_of(self, repo: str, revision: str) -> str:
        """The commit of a branch or tag. UpstreamError when there is none or the hub refuses to tell."""
        api = HfApi(endpoint=self.endpoint, token=self.token or False)
        try:
            info = api.model_info(repo, revision=revision, timeout=TIMEOUT_S)
        except _FAILURES as error:
            raise self._told(error, f"{repo} at {revision}") from error
        return str(info.sha)

    def sha256_of(self, repo: str, commit: str, file: str) -> str:
        """The hash of one (small) file of a commit: it is downloaded, and not kept."""
        try:
            with tempfile.TemporaryDirectory(prefix="provision-") as folder:
                place = hf_hub_download(
                    repo,
                    file,
                    revision=commit,
                    local_dir=folder,
                    endpoint=self.endpoint,
                    token=self.token or False,
                    etag_timeout=TIMEOUT_S,
                )
                return hashlib.sha256(Path(place).read_bytes()).hexdigest()
        except _FAILURES as error:
            raise self._told(error, f"{file} of {repo} at {commit}") from error

    def fetch(self, repo: str, commit: str, folder: Path, only: str | None = None) -> dict[str, str]:
        """Downloads all files of a commit, or one, into `folder`; what is whole there is not fetched again.

        Gives name → the hub's own SHA-256, "" for small files, of which it has none. Raises UpstreamError, also for a
        file that is not what the hub says it is.
        """
        api = HfApi(endpoint=self.endpoint, token=self.token or False)
        try:
            info = api.model_info(repo, revision=commit, files_metadata=True, timeout=TIMEOUT_S)
            snapshot_download(
                repo,
                revision=commit,
                local_dir=folder,
                endpoint=self.endpoint,
                token=self.token or False,
                etag_timeout=TIMEOUT_S,
                allow_patterns=[only] if only else None,
            )
        except _FAILURES as error:
            raise self._told(error, f"{repo} at {commit}") from error
        files = {one.rfilename: (one.lfs.sha256 if one.lfs else "") for one in info.siblings or ()}
        if only is not None:
            files = {only: files.get(only, "")}
        # The client takes a hub that falls silent for one that has nothing new.
        missing = sorted(name for name in files if not (folder / name).is_file())
        if missing:
            raise UpstreamUnreachableError(
                f"{self.endpoint} broke off {repo}: {', '.join(missing)} not downloaded", hint="run the command again"
            )
        return files

    def _told(self, error: Exception, what: str) -> UpstreamError:
        given = "the token is refused" if self.token else "no token is given (hub.token)"
        if isinstance(error, errors.GatedRepoError):
            return UpstreamError(
                f"{self.endpoint}: {what} is gated: {given}",
                hint="accept its licence there with the token's account, and give that token",
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return UpstreamError(f"{self.endpoint} has no {what}", hint="check the branch, tag or commit")
        if isinstance(error, errors.RepositoryNotFoundError):
            return UpstreamError(
                f"{self.endpoint} shows no {what}", hint=f"check the name; a private one needs a token: {given}"
            )
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            return UpstreamError(f"{self.endpoint} has no {what}", hint="check the name of the file")
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return UpstreamError(f"{self.endpoint} refuses to tell about {what}: {given}", hint="give a valid token")
        if status is not None:
            return UpstreamError(f"{self.endpoint} answered HTTP {status} about {what}", hint="try again later")
        return UpstreamUnreachableError(
            f"{self.endpoint} cannot be asked about {what}: {_words(error)}",
            hint="this machine must reach the hub (hub.endpoint) to lock models",
        )


def _words(error: Exception) -> str:
    """The root of a chain of errors: what is above it only repeats that there is no answer."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
