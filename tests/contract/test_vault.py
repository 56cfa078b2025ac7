"""Secrets in Ansible Vault: as the driver reads them, and as Ansible itself does from a rendered inventory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.apply.inventory import dump, secret_lookups
from provisioner.errors import UsageError
from provisioner.rollout.secrets import resolve_secrets

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encrypted YAML file, an encrypted text, a plain file with an encrypted value, one without, the password."""
    folder = tmp_path_factory.mktemp("vault")
    (folder / "password").write_text("open sesame\n", encoding="utf-8")
    (folder / "all.yml").write_text("token: s3cret-1\nouter: {in-ner: 's3cret {{ 2 }}'}\nlist: [1]\n", encoding="utf-8")
    (folder / "text").write_text("s3cret-3\n", encoding="utf-8")
    vault(folder, "encrypt", "all.yml", "text")
    inline = vault(folder, "encrypt_string", "--name", "api", "s3cret-4")
    (folder / "inline.yml").write_text(inline, encoding="utf-8")
    return folder


@pytest.fixture
def folder(encrypted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of those files; their password is Ansible's."""
    shutil.copytree(encrypted, tmp_path, dirs_exist_ok=True)
    from ansible import constants

    # Ansible reads its configuration once, when it is imported.
    monkeypatch.setattr(constants, "DEFAULT_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    return tmp_path


def vault(folder: Path, *words: str) -> str:
    argv = [BIN / "ansible-vault", words[0], "--vault-password-file", "password", *words[1:]]
    done = subprocess.run(argv, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True)
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    return {**ours, "ANSIBLE_HOME": str(folder / "home")}


def references(folder: Path) -> dict[str, str]:
    return {
        f"vault:{folder}/all.yml#token": "s3cret-1",
        f"vault:{folder}/all.yml#outer.in-ner": "s3cret {{ 2 }}",
        f"vault:{folder}/text": "s3cret-3",
    }


def test_the_driver_reads_them(folder: Path) -> None:
    assert resolve_secrets(references(folder)) == references(folder)


def test_ansible_reads_the_same(folder: Path) -> None:
    expected = references(folder)
    (folder / "vars.yml").write_text(dump(secret_lookups(expected)), encoding="utf-8")
    (folder / "expected.yml").write_text(dump({"expected": expected}), encoding="utf-8")
    (folder / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.assert:\n"
        "        that: (provision_secrets[item.key] | trim) == item.value\n      no_log: false\n"
        "      loop: '{{ expected | dict2items }}'\n",
        encoding="utf-8",
    )
    argv = [BIN / "ansible-playbook", "-i", "localhost,", "-e", "@vars.yml", "-e", "@expected.yml", "play.yml"]
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**environment(folder), "ANSIBLE_VAULT_PASSWORD_FILE": str(folder / "password")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("all.yml#tokn", "the secret vault:{file} cannot be read: the file has no key tokn"),
        ("all.yml#outer", "the secret vault:{file} is no text"),
        ("all.yml#token.inner", "the secret vault:{file} cannot be read: the file has no key token.inner"),
        ("all.yml#list", "the secret vault:{file} is no text"),
        ("text#a", "the secret vault:{file} cannot be read: the file has no key a"),
        ("none.yml#a", "the secret vault:{file} cannot be read: No such file or directory"),
        ("inline.yml#api", "the secret vault:{file} cannot be read: the file is not encrypted"),
        ("password", "the secret vault:{file} cannot be read: the file is not encrypted"),
    ],
)
def test_what_is_not_there(folder: Path, reference: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_secrets([f"vault:{folder}/{reference}"])
    assert caught.value.message == message.format(file=f"{folder}/{reference}")


def test_without_the_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible import constants

    monkeypatch.setattr(constants, "DEFAULT_VAULT_PASSWORD_FILE", None)
    with pytest.raises(UsageError, match="cannot be read") as caught:
        resolve_secrets([f"vault:{folder}/all.yml#token"])
    assert "set ANSIBLE_VAULT_PASSWORD_FILE" in str(caught.value)
    (folder / "wrong").write_text("closed\n", encoding="utf-8")
    monkeypatch.setattr(constants, "DEFAULT_VAULT_PASSWORD_FILE", str(folder / "wrong"))
    for name in ("all.yml#token", "text"):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            resolve_secrets([f"vault:{folder}/{name}"])
        assert "s3cret" not in str(caught.value)
