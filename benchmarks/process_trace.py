"""Watches this process and all below it, and draws when they started, loaded and computed.

Reads `/proc` five times a second: a few milliseconds of a core each time.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import psutil

PERIOD_S = 0.2
LIBRARIES = {
    "_raylet.so": "ray",
    "libarrow": "arrow",
    "libtorch_cpu": "torch",
    "libllvmlite": "numba",
}
"""Part of a mapped file's name -> the library that it shows to be loaded."""
WIDTH, LEFT, ROW = 1200, 330, 14
LEAST_CPU_S = 0.2
"""Processes that used less are not drawn."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One process. `cpu`: (moment, processor seconds so far). Moments: seconds since the epoch."""

    name: str
    start: float
    end: float
    cpu: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    loaded: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def total_s(self) -> float:
        return self.cpu[-1][1] if self.cpu else 0.0


class ProcessTrace:
    """A context manager that watches while it is entered."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], Seen] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="process trace", daemon=True)

    def __enter__(self) -> "ProcessTrace":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stopping.wait(PERIOD_S):
            for process in [me, *me.children(recursive=True)]:
                try:
                    self._look(process)
                except (psutil.Error, OSError):
                    continue  # it has ended

    def _look(self, process: psutil.Process) -> None:
        now = time.time()
        with process.oneshot():
            times, start = process.cpu_times(), process.create_time()
            name = _short(process.cmdline())
        seen = self._seen.setdefault((process.pid, start), Seen(name=name, start=start, end=now))
        seen.name, seen.end = name or seen.name, now
        seen.cpu.append((now, times.user + times.system))
        if len(seen.loaded) < len(LIBRARIES):
            mapped = Path(f"/proc/{process.pid}/maps").read_text()
            for part, library in LIBRARIES.items():
                if part in mapped:
                    seen.loaded.setdefault(library, now)

    def picture(self, moments: list[tuple[float, str]]) -> str:
        """An SVG of what was seen so far. `moments`: (seconds since the epoch, what happened); the
        first is second 0 of the picture."""
        rows = sorted(
            (one for one in list(self._seen.values()) if one.total_s >= LEAST_CPU_S),
            key=lambda one: one.start,
        )
        begin, zero = min(one.start for one in rows), moments[0][0]
        scale = (WIDTH - LEFT - 20) / (moments[-1][0] + 2 - begin)

        def x(moment: float) -> float:
            return LEFT + min(max(moment - begin, 0.0) * scale, WIDTH - LEFT)

        height = ROW * (len(rows) + 4)
        parts = [_TOP.format(width=WIDTH, height=height)]
        for index, one in enumerate(rows):
            parts += _row(one, x, ROW * (index + 1))
        for index, (moment, label) in enumerate(moments):
            place, y = x(moment), height - ROW * (1 + index % 3)
            parts.append(
                f'<line x1="{place:.1f}" x2="{place:.1f}" y1="0" y2="{height}" class="event"/>'
                f'<text x="{place - 3:.1f}" y="{y}" text-anchor="end">'
                f"{escape(label)} {moment - zero:.1f} s</text>"
            )
        return "\n".join([*parts, "</svg>\n"])


_TOP = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    "<style>text{{font:9px sans-serif}} .event{{stroke:#c33;stroke-width:.6}}"
    " .load{{fill:#c60}}</style>"
)


def _row(one: Seen, x: Callable[[float], float], y: int) -> list[str]:
    parts = [f'<text x="4" y="{y + 9}">{escape(one.name[:56])} ({one.total_s:.1f} s)</text>']
    before, used_before = one.start, 0.0
    for moment, used in one.cpu:
        share = min(1.0, (used - used_before) / max(moment - before, 1e-3))
        parts.append(
            f'<rect x="{x(before):.1f}" width="{max(x(moment) - x(before), 0.1):.1f}" y="{y}" '
            f'height="{ROW - 3}" fill="#26a" fill-opacity="{0.08 + 0.92 * share:.2f}"/>'
        )
        before, used_before = moment, used
    for library, moment in one.loaded.items():
        parts.append(f'<text x="{x(moment):.1f}" y="{y + 9}" class="load">{library}</text>')
    return parts


def _short(command: list[str]) -> str:
    """A command without the folders of its files and options."""
    words = [word.rpartition("/")[2] for word in command if not word.startswith("--")]
    return " ".join(word for word in words if word not in ("python", "python3", "-m", "-u"))
