"""Every run ends, and its record says how, whatever happens in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from provisioner.errors import Exit, ProvisionError
from provisioner.history.rundir import Run


@dataclass
class End:
    """How a run ends."""

    code: Exit = Exit.HOST_FAILED
    """what whoever did the work found; as long as nobody has said it, the run has failed"""


@contextmanager
def finishing(run: Run, on_end: Callable[[Exit], None] = lambda _code: None) -> Iterator[End]:
    """The run ends with the block: with the code that was set there, with that of the error which ended it, or
    interrupted. Errors go on to whoever called. `on_end` is told once the record is closed."""
    end = End()
    try:
        yield end
    except BaseException as error:
        end.code = _code(error)
        raise
    finally:
        run.finish(end.code)
        on_end(end.code)


def _code(error: BaseException) -> Exit:
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    return Exit(error.exit_code) if isinstance(error, ProvisionError) else Exit.HOST_FAILED
