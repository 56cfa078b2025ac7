"""The results of `make bench`: JSON, a Markdown table, a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from frame import ROOT, Results, Sample

from provisioner.report.draw import draw

INK = {"ink": "#1f2328", "quiet": "#59636e", "rule": "#d1d9e0", "c1": "#0969da", "c2": "#bc4c00", "c3": "#1a7f37"}
SHAPES = ("circle", "square", "triangle-up", "diamond")


def write(folder: Path, results: Results) -> str:
    """results.json, table.md, time-by-hosts.svg; the table is given back."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "noise": results.noise.as_data(),
        "loads_s": results.loads_s,
        "costs": {name: [asdict(one) for one in samples] for name, samples in results.costs.items()},
        "rows": [row.as_data() for row in results.rows],
        "points": results.points,
    }
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = table(results, document)
    (folder / "table.md").write_text(text, encoding="utf-8")
    if results.points:
        svg = draw(plot(results.points), "time against hosts")
        head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11" '
        (folder / "time-by-hosts.svg").write_text(svg.replace("<svg ", head, 1), encoding="utf-8")
    return text


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {"processors": len(os.sched_getaffinity(0)), "arch": platform.machine(), "python": platform.python_version()}


def table(results: Results, document: Mapping[str, Any]) -> str:
    """Every row with its goal, then what was measured, then each missed goal with what limits it."""
    rows, noise, here = results.rows, document["noise"], document["machine"]
    lines = [
        f"Measured at {document['at']} on {here['processors']} processors ({here['arch']}, Python {here['python']}).",
        f"The same small work took {_ms(noise['least_s'])} to {_ms(noise['most_s'])}, {_ms(noise['median_s'])} in the "
        f"middle, while this ran; other load on the machine at the end: {noise['load'][0]:.1f}.",
        "",
        "| work | figure | goal | measured | |",
        "|---|---|---:|---:|---|",
    ]
    lines += [
        f"| {row.work} | {row.figure} | ≤ {_number(row.goal)} {row.unit} | {_number(row.value)} {row.unit} |"
        f" {'met' if row.met else '**missed**'} |"
        for row in rows
    ]
    lines += [
        "",
        "| | runs | least | median | most | processor time | peak memory |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines += [_samples(f"{row.work}: {name}", samples) for name, samples in row.samples.items()]
    lines += [_samples(name, samples) for name, samples in results.costs.items()]
    for title, met in (("Missed, and what limits it:", False), ("Met, and what the rest goes to:", True)):
        told = [f"- {row.work}, {row.figure}: {row.limit}." for row in rows if row.met is met]
        lines += ["", title, *told] if told else []
    stand_ins = dict.fromkeys((row.work, row.stand_ins) for row in rows if row.stand_ins)
    if stand_ins:
        lines += ["", "Stand-ins:"]
        lines += [f"- {work}: {words}." for work, words in stand_ins]
    return "\n".join(lines) + "\n"


def plot(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds against hosts, both by powers of ten, a line for each kind of work."""
    names = list(dict.fromkeys(point["what"] for point in points))
    scale = {"domain": names, "range": [INK[f"c{1 + index % 3}"] for index in range(len(names))]}
    shapes = {"domain": names, "range": [SHAPES[index % len(SHAPES)] for index in range(len(names))]}
    axis = {"grid": True, "gridColor": INK["rule"], "labelColor": INK["quiet"], "titleColor": INK["quiet"]}
    log = {"type": "log"}
    encoding = {
        "x": {"field": "hosts", "type": "quantitative", "scale": log, "axis": {**axis, "title": "hosts"}},
        "y": {"field": "seconds", "type": "quantitative", "scale": log, "axis": {**axis, "title": "seconds"}},
        "color": {
            "field": "what",
            "type": "nominal",
            "scale": scale,
            "legend": {"title": None, "orient": "bottom", "columns": 2},
        },
        "shape": {"field": "what", "type": "nominal", "scale": shapes, "legend": {"title": None}},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 560,
        "height": 320,
        "background": "white",
        "padding": 10,
        "data": {"values": list(points)},
        "mark": {"type": "line", "point": {"size": 45, "filled": True}},
        "encoding": encoding,
        "config": {"font": "sans-serif"},
    }


def shown(folder: Path) -> str:
    """A folder for people."""
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _samples(name: str, samples: Sequence[Sample]) -> str:
    seconds = sorted(one.seconds for one in samples)
    cpu, peak = median(one.cpu_seconds for one in samples), max(one.peak_mib for one in samples)
    cells = [f"{seconds[0]:.2f} s", f"{median(seconds):.2f} s", f"{seconds[-1]:.2f} s", f"{cpu:.2f} s"]
    return f"| {name} | {len(seconds)} | {' | '.join(cells)} | {f'{peak:.0f} MiB' if peak else ''} |"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
