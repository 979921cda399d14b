"""``python -m tracejit``: the demo, and a look at the disk cache."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from tracejit.backends import cache


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the process's exit status."""
    description = "An eager tensor library that compiles itself: its demo, and a look at its disk cache."
    parser = argparse.ArgumentParser(prog="tracejit", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a digit classifier, eagerly and compiled, and compare")
    demo.add_argument("--epochs", type=_positive, default=30, help="how often each training sees all images (30)")
    demo.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    demo.add_argument("--seed", type=int, default=0, help="of the starting weights and the order of the images (0)")
    disk = commands.add_parser("cache", help="the machine code and the programs that are kept on disk")
    actions = "say how much there is (info), delete it, or look whether all is as it was written"
    disk.add_argument("action", nargs="?", default="info", choices=("info", "clear", "verify"), help=actions)
    options = parser.parse_args(argv)
    if options.command == "cache":
        return _cache(options.action)
    from tracejit.demo.train import run_demo

    return run_demo(options.epochs, options.device, options.seed)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {number}")
    return number


def _cache(action: str) -> int:
    folder = cache.directory()
    if folder is None:
        print("There is no disk cache: TRACEJIT_CACHE_DIR is empty, or the folder cannot be used.")
        return 0
    entries = cache.entries()
    if action == "clear":
        for path in entries:
            path.unlink(missing_ok=True)
        print(f"Deleted {len(entries)} entries from {folder}")
        return 0
    if action == "verify":
        damaged = cache.damaged()
        for path in damaged:
            print(f"damaged  {path.name}")
        print(
            f"{len(entries) - len(damaged)} of {len(entries)} entries are as they were written; others are never loaded"
        )
        return 1 if damaged else 0
    sizes = []
    for path in entries:
        with suppress(OSError):  # another process may delete it meanwhile
            sizes.append(path.stat().st_size)
    counts = {kind: sum(path.suffix == kind for path in entries) for kind in (cache.MODULE, cache.PROGRAM)}
    print(f"folder   {folder}\nentries  {len(entries)}\nbytes    {sum(sizes):,} of at most {cache.MAX_BYTES:,}")
    print(f"modules  {counts[cache.MODULE]}\nprograms {counts[cache.PROGRAM]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
