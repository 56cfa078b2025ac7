"""Ansible Vault, with the passwords that Ansible's own configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provisioner.errors import UsageError

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


def read_vault(file: Path) -> Any:
    """The data of a YAML file that is encrypted, or holds encrypted values. UsageError says what hinders."""
    from ansible.errors import AnsibleError

    try:
        return loader_with_secrets().load_from_file(str(file), cache="none")
    except AnsibleError as error:
        reason = " ".join(str(error).split())
        hint = _HINT if "secret" in reason.lower() or "decrypt" in reason.lower() else None
        raise UsageError(f"{file}: {reason[:300]}", hint=hint) from error
