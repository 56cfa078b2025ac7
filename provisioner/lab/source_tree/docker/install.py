"""Lay out the simulated engine below a root folder: python3 install.py --root DIR [--machine x86_64|aarch64]

/opt/provision-sim holds the package and the real huggingface_hub with what it needs, /usr/local/bin the commands.
"""

import argparse
import pathlib
import platform
import shutil
import zipfile

PREFIX = "opt/provision-sim"
COMMANDS = {"vllm": "provision_sim.__main__", "hf": "huggingface_hub.cli.hf"}
SCRIPT = """#!/usr/bin/python3
import sys
sys.path.insert(0, "/{prefix}")
from {module} import main
if __name__ == "__main__":
    sys.exit(main())
"""


def install(root, machine):
    tree = pathlib.Path(__file__).resolve().parent.parent
    prefix = root / PREFIX
    prefix.mkdir(parents=True, exist_ok=True)
    for wheel in sorted((tree / "wheels").glob("*.whl")):
        tag = wheel.stem.rsplit("-", 1)[-1]
        if tag == "any" or tag.endswith("_" + machine):
            zipfile.ZipFile(wheel).extractall(prefix)
    shutil.copytree(tree / "provision_sim", prefix / "provision_sim", dirs_exist_ok=True)
    commands = root / "usr/local/bin"
    commands.mkdir(parents=True, exist_ok=True)
    for name, module in COMMANDS.items():
        script = commands / name
        script.write_text(SCRIPT.format(prefix=PREFIX, module=module))
        script.chmod(0o755)
    for folder in ("vllm-workspace", "root/.cache/huggingface"):
        (root / folder).mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--machine", default=platform.machine())
    options = parser.parse_args()
    install(options.root, options.machine)
