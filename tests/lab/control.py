"""A lab host as a control machine: this program with what it needs, from the environment that runs the tests.

Python's own packages are copied as they are; those with compiled parts are fetched for the host's Python, of the very
same versions. The `ansible` package is left out for the two collections of it that the roles use: it has 30,000 files.
"""

from __future__ import annotations

import io
import json
import sysconfig
import tarfile
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from support import BIN, Lab, run, shell
from wheels import build

from provisioner.lab.docker import docker

HOME = "/opt/provision"
FLEETS = "/srv/fleets"
COLLECTIONS = ("community/docker", "community/library_inventory_filtering_v1", "ansible/posix")
LAUNCHER = """#!{python}
import sys
from {module} import main
sys.exit(main())
"""


def install(host: str, folder: Path, *more: str) -> None:
    """The program in /opt/provision of the host, as a virtual environment. `folder`: for what is made on the way;
    `more`: packages besides what it needs.
    """
    version = shell(host, "python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'").strip()
    wheel = build(folder)
    compiled = folder / "compiled"
    needed = _needed("provision", *more)
    with_code = [one for one in needed if _compiled(one)]
    wanted = [f"{one.metadata['Name']}=={one.version}" for one in with_code]
    argv = ["-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--only-binary=:all:", "--implementation", "cp"]
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux2014", "manylinux_2_28", "manylinux_2_34")]
    got = run(
        [str(BIN / "python"), *argv, *platforms, "--python-version", version, "--target", str(compiled), *wanted],
        timeout=300,
    )
    assert got.rc == 0, str(got)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for one in needed:
            if one not in with_code:
                _add(tar, one)
        for path in compiled.iterdir():
            tar.add(path, path.name)
        packages = Path(sysconfig.get_paths()["purelib"])
        for name in COLLECTIONS:
            tar.add(packages / "ansible_collections" / name, f"ansible_collections/{name}")
    site = f"{HOME}/lib/python{version}/site-packages"
    shell(host, f"rm -rf {HOME} && python3 -m venv --without-pip {HOME}")
    docker(["cp", "-", f"{host}:{site}"], what="copying packages", timeout=180, data=archive.getvalue())
    docker(["cp", str(wheel), f"{host}:{HOME}/provision.whl"], what="copying the wheel")
    shell(host, f"cd {site} && {HOME}/bin/python -m zipfile -e {HOME}/provision.whl .")
    commands = {
        "provision": "provisioner.cli.main",
        "ansible-playbook": "ansible.cli.playbook",
        "ansible": "ansible.cli.adhoc",
    }
    for name, module in commands.items():
        text = LAUNCHER.format(python=f"{HOME}/bin/python", module=module)
        shell(host, f"cat > {HOME}/bin/{name} <<'END'\n{text}END\nchmod 755 {HOME}/bin/{name}")
    told = shell(host, f"{HOME}/bin/provision version")
    assert told.startswith("provision "), told


def write_fleet(lab: Lab, host: str, path: Path, **top: object) -> str:
    """Puts a fleet file of the lab on the host, with what it names; its path there."""
    ssh = Path(yaml.safe_load(path.read_text())["ssh"]["config"])
    lines = [line.split() for line in ssh.read_text().splitlines()]
    files = {"ssh_config": ssh.read_text()}
    for words in lines:
        if words and words[0] in ("IdentityFile", "UserKnownHostsFile"):
            files[Path(words[1]).name] = Path(words[1]).read_text()
            files["ssh_config"] = files["ssh_config"].replace(words[1], f"{FLEETS}/{Path(words[1]).name}")
    content = json.loads(json.dumps(yaml.safe_load(path.read_text())))
    files["hf_token"] = (lab.fleet.parent / "hf_token").read_text()
    content["hub"]["token"] = "file:hf_token"
    content["ssh"]["config"] = "ssh_config"
    files[path.name] = yaml.safe_dump({**content, **top}, sort_keys=False)
    shell(host, f"mkdir -p -m 700 {FLEETS}")
    for name, text in files.items():
        shell(host, f"umask 077; cat > {FLEETS}/{name} <<'THE-END'\n{text.rstrip()}\nTHE-END")
    return f"{FLEETS}/{path.name}"


def provision(host: str, words: str, rc: int = 0) -> str:
    """`provision WORDS` as root on the host; what it said, once it has ended with `rc`."""
    told = shell(host, f"{HOME}/bin/provision {words} > /tmp/said 2>&1; echo $? > /tmp/rc; cat /tmp/said", timeout=300)
    code = shell(host, "cat /tmp/rc").strip()
    assert code == str(rc), f"provision {words}: exit {code}, expected {rc}:\n{told}"
    return told


def _needed(name: str, *more: str) -> list[metadata.Distribution]:
    """Everything that the package needs to run, but itself and `ansible`; with ansible-core and `more`."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(one) for one in (*(metadata.requires(name) or ()), "ansible-core", *more)]
    while waiting:
        wanted = waiting.pop()
        extras = {"extra": ""}
        if wanted.name == "ansible" or (wanted.marker and not wanted.marker.evaluate(extras)):
            continue
        key = wanted.name.lower().replace("_", "-").replace(".", "-")
        if key in found:
            continue
        try:
            found[key] = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:  # for another Python than this one
            continue
        waiting += [Requirement(one) for one in found[key].requires or ()]
    return list(found.values())


def _compiled(one: metadata.Distribution) -> bool:
    return any(file.suffix == ".so" for file in one.files or ())


def _add(tar: tarfile.TarFile, one: metadata.Distribution) -> None:
    for file in one.files or ():
        if ".." in file.parts or file.suffix == ".pyc" or file.is_absolute():
            continue
        path = Path(str(one.locate_file(file)))
        if path.is_file():
            tar.add(path, str(file))
