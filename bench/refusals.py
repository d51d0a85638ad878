"""The refusal matrix: every way into a service, tried at each level of trust with real containers, as a table.

    python bench/refusals.py

A daemon in roots of its own; the ways are those of tests/mesh_world.py. With trust full all of them get through.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway_world import World
from mesh_world import ATTEMPTS, EXPECTED, Shop, refusals

LEVELS = ("full", "half", "zero")


def main():
    """The table; exit code 1 when one is not as it should be."""
    if os.geteuid():
        sys.exit("needs root")
    world, found = World().start(), {}
    try:
        world.load_busybox()
        for level in LEVELS:
            shop = Shop(world)
            try:
                found[level] = refusals(shop, level)
            finally:
                shop.close()
    finally:
        world.close()
    print(f"{'':26}" + "".join(f"{level:>13}" for level in LEVELS))
    for name in ATTEMPTS:
        wrong = {level: found[level][name] != EXPECTED[level][name] for level in LEVELS}
        cells = [found[level][name] + (" (!)" if wrong[level] else "") for level in LEVELS]
        print(f"{name:26}" + "".join(f"{cell:>13}" for cell in cells))
    sys.exit(found != EXPECTED)


if __name__ == "__main__":
    main()
