"""`corten stats`: what containers use, once or again and again."""

import os
import sys
import time

from corten.base.human import human_size, human_size_binary
from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.containers import config_format
from corten.cli.errors import ApiError
from corten.cli.main import Cli
from corten.cli.table import Listing, Row

Sample = dict[str, object]

HEADERS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_INTERVAL_S = 1.0


def _at(value: object, *path: str) -> float:
    """A number deep in a sample; 0 when it is not there."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, (int, float)) else 0


def cpu_percent(sample: Sample, before: Sample | None) -> float:
    """Share of one processor, times a hundred, since the sample before."""
    used, total = _at(sample, "cpu_stats", "cpu_usage", "total_usage"), _at(sample, "cpu_stats", "system_cpu_usage")
    source, key = (before, "cpu_stats") if before else (sample, "precpu_stats")
    used -= _at(source, key, "cpu_usage", "total_usage")
    total -= _at(source, key, "system_cpu_usage")
    count = _at(sample, "cpu_stats", "online_cpus") or 1
    return used / total * count * 100.0 if total > 0 and used > 0 else 0.0


def memory_used(sample: Sample) -> float:
    """Bytes in use without the page cache that could go."""
    usage = _at(sample, "memory_stats", "usage")
    for name in ("total_inactive_file", "inactive_file"):
        cache = _at(sample, "memory_stats", "stats", name)
        if 0 < cache < usage:
            return usage - cache
    return usage


def _network(sample: Sample) -> str:
    networks = sample.get("networks")
    found = networks.values() if isinstance(networks, dict) else ()
    received, sent = (sum(_at(one, name) for one in found) for name in ("rx_bytes", "tx_bytes"))
    return f"{human_size(received, 3)} / {human_size(sent, 3)}"


def _blocks(sample: Sample) -> str:
    totals = {"r": 0.0, "w": 0.0}
    stats = sample.get("blkio_stats")
    entries = stats.get("io_service_bytes_recursive") if isinstance(stats, dict) else None
    for entry in entries or []:
        kind = str(entry.get("op", ""))[:1].lower()
        if kind in totals:
            totals[kind] += _at(entry, "value")
    return f"{human_size(totals['r'], 3)} / {human_size(totals['w'], 3)}"


def row_of(asked: str, sample: Sample | None, before: Sample | None, trunc: bool) -> Row:
    """A sample as a row of texts; dashes while there is none."""
    if sample is None or not sample.get("read", "").startswith("2"):  # type: ignore[attr-defined]
        dashes: Row = dict.fromkeys(HEADERS, "--")
        dashes.update(Container=asked, MemUsage="-- / --")
        return dashes
    used, limit = memory_used(sample), _at(sample, "memory_stats", "limit")
    container_id = str(sample.get("id", ""))
    return {
        "BlockIO": _blocks(sample), "CPUPerc": f"{cpu_percent(sample, before):.2f}%", "Container": asked,
        "ID": container_id[:12] if trunc else container_id,
        "MemPerc": f"{used / limit * 100.0 if limit else 0.0:.2f}%",
        "MemUsage": f"{human_size_binary(used)} / {human_size_binary(limit)}",
        "Name": str(sample.get("name", "")).removeprefix("/"), "NetIO": _network(sample),
        "PIDs": str(int(_at(sample, "pids_stats", "current"))),
    }


class _Watch:
    """The containers shown and their last samples."""

    def __init__(self, cli: Cli, values: Values) -> None:
        self.cli = cli
        self.names = values.rest
        self.everything = values.flag("all")
        self.before: dict[str, Sample] = {}

    def asked(self) -> list[str]:
        if self.names:
            return self.names
        found = self.cli.client.call("GET", "/containers/json", [("all", "1")] if self.everything else [])
        return [str(one["Id"])[:12] for one in found] if isinstance(found, list) else []

    def sample(self) -> list[tuple[str, Sample | None, Sample | None]]:
        """(as asked, sample, the one before) of each; one that has gone is left out."""
        rows = []
        for name in self.asked():
            try:
                found = self.cli.client.call(
                    "GET", f"/containers/{quote(name)}/stats", [("stream", "0"), ("one-shot", "1")])
            except ApiError:
                if self.names and name not in self.before:
                    raise
                continue
            sample = found if isinstance(found, dict) else None
            rows.append((name, sample, self.before.get(name)))
            if sample is not None:
                self.before[name] = sample
        return rows


def stats(cli: Cli, values: Values) -> None:
    """`corten stats [C…]`. GET /containers/{id}/stats."""
    form = values.text("format") or config_format(cli, "statsFormat", values)
    trunc = not values.flag("no-trunc")
    watch = _Watch(cli, values)
    listing = Listing("*container.statsContext", HEADERS, COLUMNS)
    watch.sample()
    live = os.isatty(1) and form in ("", "table")
    while True:
        time.sleep(_INTERVAL_S)
        rows = [row_of(name, sample, before, trunc) for name, sample, before in watch.sample()]
        text = listing.text(rows, form)
        if live and not values.flag("no-stream"):
            text = "\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J"
        sys.stdout.write(text)
        sys.stdout.flush()
        if values.flag("no-stream"):
            return
