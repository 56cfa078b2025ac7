"""The `vllm` command of the image."""

from __future__ import annotations

import sys

from . import arguments


def main() -> int:
    """Parse, dispatch; the exit code."""
    options = arguments.parse(sys.argv[1:])
    if options.command == "serve":
        from .serve import serve

        return serve(options)
    from .bench import BenchError, bench

    try:
        return bench(options)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
