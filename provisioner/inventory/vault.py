"""Ansible Vault, with the passwords that Ansible's own configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from provisioner.errors import UsageError

_HEADER = b"$ANSIBLE_VAULT;"
_HINT = "set ANSIBLE_VAULT_PASSWORD_FILE, or vault_password_file or vault_identity_list in ansible.cfg"


def loader_with_secrets() -> Any:
    """Ansible's loader of files, knowing the vault passwords that ansible.cfg and the environment name; it asks nobody.

    Raises AnsibleError for a password file that cannot be read.
    """
    from ansible import constants
    from ansible.parsing.dataloader import DataLoader
    from ansible.parsing.vault import get_file_vault_secret

    loader = DataLoader()
    named = [str(entry) for entry in constants.DEFAULT_VAULT_IDENTITY_LIST or ()]
    if constants.DEFAULT_VAULT_PASSWORD_FILE:
        named.append(str(constants.DEFAULT_VAULT_PASSWORD_FILE))
    secrets = []
    for entry in named:
        label, _, file = entry.rpartition("@")
        if file in ("prompt", "prompt_ask_vault_pass"):
            continue
        secret = get_file_vault_secret(filename=file, vault_id=label or None, loader=loader)
        secret.load()
        secrets.append((label or constants.DEFAULT_VAULT_IDENTITY, secret))
    loader.set_vault_secrets(secrets)
    return loader


def read_vault(file: Path, key: str | None) -> str:
    """The text of an encrypted file; with `key` (`outer.inner`), a text of the YAML in it.

    The whole file must be encrypted: of a file with single encrypted values Ansible's own lookup, which a rendered
    inventory uses, knows nothing. UsageError says what hinders, and shows nothing of the file.
    """
    from ansible.errors import AnsibleError

    secret = f"the secret vault:{file}" + (f"#{key}" if key else "")
    try:
        if not file.read_bytes().startswith(_HEADER):
            hint = f"encrypt the whole file: ansible-vault encrypt {file}"
            raise UsageError(f"{secret} cannot be read: the file is not encrypted", hint=hint)
        text = str(loader_with_secrets().get_text_file_contents(str(file)))
    except OSError as error:
        raise UsageError(f"{secret} cannot be read: {error.strerror or error}") from error
    except AnsibleError as error:
        raise UsageError(f"{secret} cannot be read: {_first_sentence(error)}", hint=_HINT) from error
    return text if key is None else _value(text, key, secret)


def _value(text: str, key: str, secret: str) -> str:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        # Without its cause, which shows lines of the file.
        raise UsageError(f"{secret} cannot be read: what is encrypted is not YAML") from None
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            raise UsageError(f"{secret} cannot be read: the file has no key {key}")
        found = found[part]
    if not isinstance(found, str):
        raise UsageError(f"{secret} is no text", hint="quote it, where it looks like a number")
    return found


def _first_sentence(error: BaseException) -> str:
    """What Ansible says first. After it come lines of the file."""
    return str(error).splitlines()[0].partition("<<<")[0].strip()[:200]
