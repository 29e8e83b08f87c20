"""Appends lines to a file at a fixed rate: `python -m benchmarks.log_writer FILE BYTES_A_SECOND SECONDS`. Prints how many.

Each says when it was written. What could not be written in its time is written as soon as possible, so the rate is kept.
"""

import random
import sys
import time
from pathlib import Path

from benchmarks.log_lines import LINE_BYTES, timed

_TICK_SECONDS = 0.01
_VARIANTS = 1000


def main(path: Path, bytes_a_second: float, seconds: float) -> int:
    """Write; gives the number of lines."""
    draw = random.Random(3)
    marker = f"{0:019d}"
    templates = [f"{timed(draw, number, 0)}\n".partition(marker)[::2] for number in range(_VARIANTS)]
    lines = int(bytes_a_second * seconds / LINE_BYTES)
    a_tick = bytes_a_second * _TICK_SECONDS / LINE_BYTES
    written = 0
    with path.open("a", buffering=1 << 20) as file:
        began = time.monotonic()
        while written < lines:
            due = min(lines, int(a_tick * (1 + (time.monotonic() - began) // _TICK_SECONDS)))
            now = f"{time.time_ns():019d}"
            for number in range(written, due):
                before, after = templates[number % _VARIANTS]
                file.write(f"{before}{now}{after}")
            file.flush()
            written = max(written, due)
            time.sleep(max(0.0, began + written / a_tick * _TICK_SECONDS - time.monotonic()))
    return written


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
