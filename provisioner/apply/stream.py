"""A shard's Ansible on a worker: `python -m provisioner.apply.stream FOLDER` is ansible-runner's worker.

On standard input: one line of JSON (the job and its secrets), then what ansible-runner's transmitter wrote. On standard
output: what its processor reads. A process of its own, with a clean environment, so that it can be ended from outside.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import ansible_runner.interface

from provisioner.apply.play import IDENT, Job, arguments
from provisioner.apply.secrets_file import memory_file


def main() -> None:
    folder = Path(sys.argv[1])
    # Whatever else prints must not get into the stream.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    orders = json.loads(sys.stdin.buffer.readline())
    job = Job(**orders["job"])
    with memory_file(json.dumps(orders["secrets"])) as secrets_path:
        # What ansible-runner sends back at the end are its artifacts: logs of hosts go among them.
        logs = folder / "artifacts" / IDENT / "logs"
        ansible_runner.interface.init_runner(
            streamer="worker",
            _input=sys.stdin.buffer,
            _output=output,
            private_data_dir=str(folder),
            **arguments(folder, job, secrets_path, logs),
        ).run()


if __name__ == "__main__":
    main()
