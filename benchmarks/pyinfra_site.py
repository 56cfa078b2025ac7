"""What our roles hold a converged host to, as pyinfra operations: packages, files as rendered, images, services.

PROVISION_RENDERED=FOLDER pyinfra INVENTORY benchmarks/pyinfra_site.py     (FOLDER: `provision render -o FOLDER`)
"""

import os
from pathlib import Path

import yaml
from pyinfra import host
from pyinfra.operations import apt, docker, files, systemd

rendered = Path(os.environ["PROVISION_RENDERED"])
variables = yaml.load((rendered / "inventory" / "host_vars" / f"{host.name}.yml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506  # BaseLoader makes texts, no objects
place = rendered / "files" / host.name

apt.packages(name="Docker", packages=["docker.io", "ca-certificates"], _sudo=True)
systemd.service(name="Docker runs", service="docker.service", running=True, enabled=True, _sudo=True)
for image in variables["vllm_image_list"]:
    docker.image(name=f"Image {image['reference']}", image=image["reference"], _sudo=True)
for file in sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".env"):
    there = f"/{file.relative_to(place)}"
    mode = oct(file.stat().st_mode & 0o777)[2:]
    files.put(name=there, src=str(file), dest=there, user="root", group="root", mode=mode, _sudo=True)
for server in variables["vllm_server_list"]:
    unit = f"vllm-{server['name']}.service"
    systemd.service(name=unit, service=unit, running=True, enabled=True, _sudo=True)
