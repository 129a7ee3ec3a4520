"""A progress bar for commands that take their time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

try:
    from tqdm import tqdm
except ImportError:  # the extra `koherent[progress]` brings it
    tqdm = None


@contextmanager
def progress_bar(
    stream: Any, description: str, total: Callable[[], int], unit: str = "entries"
) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes how many more are done.

    A bar is shown where ``stream`` is a terminal and tqdm is installed; ``total``, which may be costly, is asked for
    only then.
    """
    if tqdm is None or not stream.isatty():
        yield lambda _: None
        return
    # Django's wrapper around a stream ends every write with a new line.
    plain = getattr(stream, "_out", stream)
    with tqdm(total=total(), desc=description, file=plain, unit=f" {unit}", mininterval=0.5) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
