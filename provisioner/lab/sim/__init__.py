"""Provision's simulated engine: a stand-in for the `vllm` command of vLLM 0.12.0, for rehearsals without a GPU.

It computes nothing: it speaks vLLM's command line, HTTP interface and log style, reads the model's files from
the Hugging Face cache as vLLM does, and answers at the speed table of the (simulated) GPU that it is given.
Standard library alone, relative imports alone: the package is copied into the image as it is.

Faults for tests, by the environment variable SIM_FAULT:

| value                  | what the server does |
|------------------------|----------------------|
| `never-healthy`        | logs that it loads weights, and never listens |
| `exit-at-start`        | logs an out-of-memory error and exits 1 before it listens |
| `die-on-first-request` | is healthy; the first generation answers 500 and the process exits 1 |
| `slow=FACTOR`          | takes FACTOR times as long for every token |
| `wrong-answer`         | is healthy and fast; every answer is a row of exclamation marks |

SIM_STARTUP_SECONDS (default 1) is the time from the first log line until the server listens.
"""

VERSION = "0.12.0"
BANNER = "provision's SIMULATED engine (no model is computed; answers and speeds are made up)"
