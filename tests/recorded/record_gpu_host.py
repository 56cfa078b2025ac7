"""Record what the probe and nvidia-smi say on a real GPU machine, without anything that identifies the machine.

    python3 tests/recorded/record_gpu_host.py OUTPUT_FOLDER

Needs Python 3.6 and this repository's probe script; reads only. Writes 8 files. Serial numbers, UUIDs, board and part
numbers, PCI addresses, host names and boot ids are replaced before anything is written.
"""

# Runs on GPU hosts with old Pythons.
# ruff: noqa: UP031, PTH100, PTH103, PTH118, PTH120, PTH123, T201

import json
import os
import re
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "provisioner", "hosts", "probe_script.py")
REQUEST = {"disk_paths": ["/", "/var/lib/vllm/huggingface"], "units": ["docker.service", "vllm-none.service"]}
FIELDS = "index,name,memory.total,memory.used,driver_version,compute_cap"
MORE_FIELDS = "persistence_mode,mig.mode.current,ecc.mode.current,power.limit,clocks.max.sm,pcie.link.gen.max"
FILES = {
    "nvidia-smi.txt": [["nvidia-smi", "-L"], ["nvidia-smi"]],
    "nvidia-smi-q.txt": [["nvidia-smi", "-q"]],
    "nvidia-smi-topo.txt": [["nvidia-smi", "topo", "-m"]],
    "nvidia-smi-query.txt": [
        ["nvidia-smi", "--format=csv,noheader,nounits", "--query-gpu=" + FIELDS],
        ["nvidia-smi", "--format=csv", "--query-gpu=" + FIELDS],
        ["nvidia-smi", "--format=csv,noheader,nounits", "--query-gpu=" + MORE_FIELDS],
        ["nvidia-smi", "--format=csv,noheader,nounits", "--query-gpu=index,no_such_field"],
    ],
    "meminfo.txt": [["cat", "/proc/meminfo"]],
    "os-release.txt": [["cat", "/etc/os-release"]],
    "uname.txt": [["uname", "-a"], ["nproc"], ["nvidia-ctk", "--version"], ["docker", "version"]],
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for name, commands in FILES.items():
        write(folder, name, "\n".join("$ %s\n%s" % (" ".join(argv), said(argv)) for argv in commands))
    with open(SCRIPT) as stream:
        script = stream.read() + "\nmain(json.loads(%r))\n" % json.dumps(REQUEST)
    text = said([sys.executable, "-I", "-"], script)
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if len(lines) == 1:
        answer = json.loads(lines[0])
        answer["system"]["hostname"] = "gpu-host"
        text = json.dumps(answer, indent=1, sort_keys=True) + "\n"
    write(folder, "probe.json", text)  # as it is when it is no JSON: a failure is worth a recording too


def said(argv, stdin=""):
    try:
        done = subprocess.run(
            argv, input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
        )
    except FileNotFoundError:
        return "(no %s here)\n" % argv[0]
    except subprocess.TimeoutExpired:
        return "(did not end within 120 s)\n"
    end = "" if done.returncode == 0 else "(exit %d)\n" % done.returncode
    return done.stdout.decode("utf-8", "replace") + end


def write(folder, name, text):
    with open(os.path.join(folder, name), "w") as stream:
        stream.write(clean(text))
    print("%s: %d lines" % (name, text.count("\n")))


def clean(text):
    label = r"(?im)^(\s*[^:\n]*\b(?:serial( number)?|uuid|board id|part number|gpu pdi|guid|slot number|host id|tray"
    text = re.sub(label + r" index|module id|process name|bus id)\s*:\s).*$", r"\1[removed]", text)
    text = re.sub(r"(?m)^(\s+Name\s+:\s).*$", r"\1[removed]", text)
    text = re.sub(r"(?m)^(\| Processes:).*\Z", r"\1 [removed]\n", text, flags=re.DOTALL)
    text = re.sub(r"(?m)^(\s*(?:Bus|Domain)\s+:\s).*$", r"\g<1>0x00", text)
    text = re.sub(r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}", ZERO, text)
    text = re.sub(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]\b", "00000000:00:00.0", text)
    names = {socket.gethostname(), socket.getfqdn(), os.uname()[1], socket.gethostname().split(".")[0]}
    for name in sorted(names - {"localhost"}, key=len, reverse=True):
        if len(name) > 2:
            text = text.replace(name, "gpu-host")
    return text


ZERO = "00000000-0000-0000-0000-000000000000"

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
