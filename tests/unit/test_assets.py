from __future__ import annotations

from pathlib import Path

import pytest

from provisioner import assets
from provisioner.errors import ProvisionError


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installed package without playbooks and roles, so far."""
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path / "provisioner")
    monkeypatch.setattr(assets, "ansible_dir", assets.ansible_dir.__wrapped__)
    return tmp_path / "provisioner"


def fill(folder: Path) -> Path:
    (folder / "playbooks").mkdir(parents=True)
    (folder / "playbooks" / "site.yml").touch()
    (folder / "roles" / "r" / "templates").mkdir(parents=True)
    (folder / "roles" / "r" / "templates" / "t.j2").write_text("größe {{ x }}\n", encoding="utf-8")
    return folder


def test_in_this_checkout() -> None:
    assert (assets.ansible_dir() / "roles" / "vllm_server" / "templates" / "vllm.service.j2").is_file()
    assert assets.template("vllm_server", "vllm.service.j2").startswith("# Written by provision")


def test_beside_the_package(package: Path) -> None:
    folder = fill(package.parent)
    assert assets.ansible_dir() == folder


def test_inside_a_wheel(package: Path) -> None:
    fill(package.parent)
    folder = fill(package / "_ansible")
    assert assets.ansible_dir() == folder
    assert assets.template("r", "t.j2") == "größe {{ x }}\n"


def test_nowhere(package: Path) -> None:
    with pytest.raises(ProvisionError) as caught:
        assets.ansible_dir()
    assert str(caught.value) == (
        f"the playbooks and roles are missing beside {package}\n  hint: install the package again, whole"
    )
