"""Who is told about rollouts, as an operator writes it."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator

from provisioner.fleet.base import Frozen

Moment = Literal["started", "wave", "failed", "rolled_back", "finished"]
MAIL = r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+$|^[A-Za-z_][A-Za-z0-9._-]*$"
FORMATS = {MAIL: "an e-mail address or the name of a local user"}
_URL = re.compile(r"https?://[^\s@]+|env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+|vault:[^#]+(#[A-Za-z0-9_.-]+)?")


def _webhook(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError(
            "expected an address that starts with https:// or http://, without a user or password in it, or a "
            "reference to one: env:NAME, file:PATH, command:CMD or vault:FILE#KEY"
        )
    return value


Webhook = Annotated[
    str,
    AfterValidator(_webhook),
    WithJsonSchema({"type": "string", "pattern": "^(https?:|env:|file:|command:|vault:)."}),
]
Mail = Annotated[str, StringConstraints(pattern=MAIL)]


class Notify(Frozen):
    """Somebody to tell: one of command, webhook and email. What fails here is a warning and stops no rollout."""

    on: Annotated[tuple[Moment, ...], Field(min_length=1)]
    """When: `started`; `wave`, one has passed its gate; `failed`, the run ended otherwise than well; `rolled_back`,
    hosts are back on their previous release; `finished`, all is well."""
    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] | None = None
    """A program of this machine and its arguments; it gets JSON on its standard input."""
    webhook: Webhook | None = None
    """An address that JSON is posted to, or a reference to one, as addresses of chat systems are secrets:
    `env:SLACK_URL`."""
    format: Literal["json", "slack"] = "json"
    """What a webhook gets: everything, or `{"text": …}` as Slack, Mattermost and others want it."""
    email: Annotated[tuple[Mail, ...], Field(min_length=1)] | None = None
    """Addresses that a mail goes to, through this machine's `sendmail`."""
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0
    """seconds that it may take; so long it may hold up a rollout, and no longer"""

    @property
    def kind(self) -> Literal["command", "webhook", "email"]:
        """Which of the three it is."""
        return "command" if self.command else "webhook" if self.webhook else "email"

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(way is not None for way in (self.command, self.webhook, self.email)) != 1:
            raise ValueError("expected one of command, webhook and email")
        return self


def references(rules: tuple[Notify, ...]) -> tuple[str, ...]:
    """Secret references among the webhooks."""
    return tuple(rule.webhook for rule in rules if rule.webhook and not rule.webhook.startswith("http"))
