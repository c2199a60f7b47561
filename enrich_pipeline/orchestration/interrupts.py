"""What a run does when it is told to end: by Dagster, by a terminal, by the machine going down."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from enrich_pipeline.waterfall.engine import Waterfall

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def finishing(waterfall: Waterfall) -> Iterator[None]:
    """Keep an interruption back until what is in flight is settled and the rest given back.

    The signal is raised again when the block ends, for whoever had asked to hear it before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        heard.append(number)
        waterfall.stop()

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])
