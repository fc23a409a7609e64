"""What a user sees while a run goes on: that it compiles, then how many chunks there are and how long they take."""

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Seconds until there is something to see, and between two looks at the clock.
_PATIENCE = 1.0


class Bar:
    """A progress bar, or nothing."""

    def __init__(self, bar: Any, label: str):
        self._bar = bar
        self._label = label

    def computes(self) -> None:
        """Compiling is over."""
        if self._bar is not None:
            self._bar.set_description(self._label, refresh=False)

    def advance(self, chunks: int) -> None:
        """So many more are finished."""
        if self._bar is not None:
            self._bar.update(chunks)


@contextmanager
def shown(label: str, chunks: int, show: bool | None) -> Iterator[Bar]:
    """Show how far a run is, from a second after its start on, also while nothing is finished.

    Args:
        label: of the run.
        chunks: in it.
        show: None: on a terminal, if tqdm is installed.

    Raises:
        ImportError: if a bar was asked for and tqdm is not installed.
    """
    found = importlib.util.find_spec("tqdm") is not None
    if show and not found:
        raise ImportError('progress=True needs tqdm: pip install "covsde[plot]".')
    if not (show or (show is None and found and sys.stderr.isatty())):
        yield Bar(None, label)
        return
    from tqdm import tqdm

    name = label or "run"
    over = threading.Event()
    with tqdm(total=chunks, desc=f"{name}: compiling", delay=_PATIENCE, leave=False) as bar:

        def tick() -> None:
            while not over.wait(_PATIENCE):
                bar.refresh()

        clock = threading.Thread(target=tick, daemon=True)
        clock.start()
        try:
            yield Bar(bar, name)
        finally:
            over.set()
            clock.join()
