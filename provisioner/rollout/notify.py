"""Telling people and programs what a rollout does. Nothing here ever stops one: what fails is a warning."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from http.client import HTTPException
from typing import Any

from provisioner.errors import ProvisionError
from provisioner.fleet.notify import Moment, Notify
from provisioner.history.redact import redact
from provisioner.history.turn import current_user
from provisioner.rollout.secrets import resolve_secrets

SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
GRACE_S = 1.0
"""for a way that has its own time limit to say so itself"""


class Notifier:
    """Tells those whom the fleet file names.

    `secrets`: values that are in no message and no warning, besides the addresses of webhooks. `warn` is told what
    failed, from any thread.
    """

    def __init__(
        self,
        rules: Sequence[Notify],
        *,
        fleet: str,
        run: str,
        warn: Callable[[str], None],
        environment: Mapping[str, str],
        secrets: Sequence[str] = (),
    ) -> None:
        self._rules = tuple(rules)
        self._about = {"fleet": fleet, "run": run, "user": current_user(), "machine": socket.gethostname()}
        self._warn = warn
        self._secrets = list(secrets)
        self._urls: dict[int, str] = {}
        for index, rule in enumerate(self._rules):
            if rule.webhook:
                self._take_url(index, rule.webhook, environment)

    def tell(self, moment: Moment, text: str, **details: Any) -> None:
        """`text`: one line for people. `details`: data for programs, such as `hosts` or `wave`. Ends in bounded time
        and raises nothing."""
        clean = redact(text, self._secrets)
        document = {"event": moment, "text": clean, **self._about, "time": datetime.now(UTC).isoformat()}
        told = json.loads(redact(json.dumps({**document, **details}, default=str), self._secrets))
        threads = [
            (index, rule, threading.Thread(target=self._one, args=(index, rule, told), daemon=True, name="notify"))
            for index, rule in enumerate(self._rules)
            if moment in rule.on
        ]
        for _, _, thread in threads:
            thread.start()
        for index, rule, thread in threads:
            thread.join(rule.timeout_s + GRACE_S)
            if thread.is_alive():
                self._failed(index, rule, f"did not end within {rule.timeout_s:g} s")

    def _take_url(self, index: int, webhook: str, environment: Mapping[str, str]) -> None:
        try:
            url = webhook
            if not webhook.startswith(("http://", "https://")):
                url = resolve_secrets([webhook], environment)[webhook]
                if not url.startswith(("http://", "https://")):
                    raise ProvisionError(f"{webhook.partition(':')[0]}: holds no address that starts with https://")
        except ProvisionError as error:
            self._failed(index, self._rules[index], error.message)
        else:
            self._urls[index] = url
            self._secrets.append(url)

    def _one(self, index: int, rule: Notify, told: Mapping[str, Any]) -> None:
        try:
            if rule.command:
                _run(rule.command, json.dumps(told) + "\n", rule.timeout_s)
            elif rule.email:
                _run(_sendmail(rule.email), _mail(rule.email, told), rule.timeout_s)
            elif index in self._urls:
                _post(self._urls[index], told if rule.format == "json" else _slack(told["text"]), rule.timeout_s)
        except (_FailedError, OSError, ValueError, subprocess.SubprocessError) as error:
            self._failed(index, rule, str(error))

    def _failed(self, index: int, rule: Notify, why: str) -> None:
        self._warn(redact(f"warning: notify[{index}] ({rule.kind}): {why}", self._secrets))


class _FailedError(Exception):
    pass


def _run(argv: Sequence[str], text: str, timeout_s: float) -> None:
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that what it started ends with it
    )
    try:
        _, err = process.communicate(text.encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise _FailedError(f"did not end within {timeout_s:g} s") from None
    if process.returncode != 0:
        words = err.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise _FailedError(f"{argv[0]} failed (rc {process.returncode}): {words[-1][:200]}")


def _sendmail(addresses: Sequence[str]) -> list[str]:
    found = shutil.which("sendmail") or next((path for path in SENDMAIL if os.access(path, os.X_OK)), None)
    if found is None:
        raise _FailedError("this machine has no sendmail: install an MTA (postfix, msmtp-mta …)")
    return [found, "-i", "--", *addresses]


def _mail(addresses: Sequence[str], told: Mapping[str, Any]) -> str:
    message = EmailMessage()
    message["To"] = ", ".join(addresses)
    first = str(told["text"]).splitlines() or [""]
    message["Subject"] = f"provision: {told['fleet']}: {first[0]}"[:200]
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content(f"{told['text']}\n\n{json.dumps(told, indent=1)}\n")
    return message.as_string()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """An address may be a secret: it is not given to whoever is named instead."""
        return


def _slack(text: str) -> dict[str, str]:
    """Slack reads `<…>` as links and mentions, unless the three characters are escaped (its "Formatting text")."""
    return {"text": html.escape(text, quote=False)}


def _post(url: str, document: Mapping[str, Any], timeout_s: float) -> None:
    request = urllib.request.Request(  # noqa: S310 - http or https, see Notify
        url,
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "provision"},
        method="POST",
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        with error:
            raise _FailedError(f"it answered HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _FailedError(f"it cannot be reached: {error.reason}") from None
    except HTTPException as error:
        raise _FailedError(f"it does not answer as a web server does: {str(error)[:100]!r}") from None
