#!/usr/bin/env python3
"""Where a program could be cut: the gateway's audit lines (JSON, on standard input) by the first part of the path.

What has most requests should scale alone; what is only read can have copies; what is slow or large needs other
machines.
"""

import json
import sys


def main():
    """One line for each part, the busiest first."""
    parts = {}
    for text in sys.stdin:
        line = json.loads(text)
        if line.get("path") and line.get("status", 0) < 400:
            parts.setdefault("/" + line["path"].split("/")[1], []).append(line)
    row = "{:<12}{:>8}  {:>6}  {:>6}  {:>6}  {:>8}".format
    print(row("PATH", "REQUESTS", "WRITES", "MS", "MS 95%", "BYTES"))
    for part, lines in sorted(parts.items(), key=lambda item: -len(item[1])):
        times = sorted(line["ms"] for line in lines)
        writes = sum(line["method"] not in ("GET", "HEAD") for line in lines)
        size = sum(line["sent"] for line in lines) // len(lines)
        print(row(part, len(lines), f"{100 * writes // len(lines)}%", times[len(times) // 2],
                  times[len(times) * 95 // 100], size))


if __name__ == "__main__":
    main()
