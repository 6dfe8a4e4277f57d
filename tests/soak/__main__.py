"""`python -m tests.soak`: pictures go in, everything is hurt, and then every picture is counted.

Exit code 1 unless lost = duplicated = unexpected = stuck = 0.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.soak import faults, history, load, report, stack

WARM_UP_SECONDS = 3.0
STILL_SECONDS = 60.0  # if nothing moves for so long, what is open is stuck


def soak(folder, *, images, count, minutes, seed, kinds=None, tell=print, **settings):
    """Run one; what there is to tell, and the progress over time.

    Args:
        folder: an empty one.
        images: how many pictures are handed in, besides those that belong to faults.
        count: how many faults.
        minutes: over which time both are spread.
        seed: chooses the faults, their order and whom they hit.
        kinds: which faults; all by default.
        tell: is told now and then how it stands.
        settings: those of the product that shall differ from the default.
    """
    dice = random.Random(seed)  # noqa: S311 (a seed, not a secret)
    whole = stack.Soaked.make(folder, **settings)
    try:
        past, started = history.History(), time.monotonic()
        sent = load.Load(whole, past, images, minutes * 60, started)
        sent.learn()
        sent.started = started = time.monotonic()
        whole.supervise(started)
        sent.start()
        time.sleep(WARM_UP_SECONDS)
        wanted = _order(kinds or faults.Faults.kinds(), count, dice)
        done = _hurt(faults.Faults(whole, sent, dice), wanted, started, minutes * 60, tell)
        sent.join(minutes * 60)
        rest = whole.wait_for_the_rest(STILL_SECONDS)
        totals, broken = past.judge(whole.all_results(), whole.still_open())
        whole.check_books()
        options = {"images": images, "faults": count, "minutes": minutes, "seed": seed, "settings": settings}
        seconds = time.monotonic() - started
        return report.tell(past, totals, broken, done, whole, options, seconds, rest), whole.progress
    finally:
        try:
            whole.close()
        except Exception as error:  # noqa: BLE001 (what was seen is worth more than a clean end)
            tell(f"the stack could not be ended cleanly: {type(error).__name__}: {error}")


def _order(kinds, count, dice):
    """Every kind as often as any other, in an order that the seed chooses."""
    order = []
    while len(order) < count:
        round_ = list(kinds)
        dice.shuffle(round_)
        order += round_
    return order[:count]


def _hurt(hurting, wanted, started, seconds, tell):
    """One fault after the other, spread over the time; when each began and ended."""
    done = []
    pause = (seconds - WARM_UP_SECONDS) / max(1, len(wanted))
    for number, kind in enumerate(wanted):
        time.sleep(max(0.0, started + WARM_UP_SECONDS + number * pause - time.monotonic()))
        at = time.monotonic() - started
        try:
            hurting.hurt(kind)
        except Exception as error:  # noqa: BLE001 (what is hurt may hurt back; it is told, and counted all the same)
            tell(f"{kind}: {type(error).__name__}: {error}")
        done.append((at, time.monotonic() - started, kind))
        ended = hurting.stack.progress[-1][1] if hurting.stack.progress else 0
        tell(f"{at:7.1f} s  fault {number + 1}: {kind}; {ended:,} pictures have ended")
    return done


def main():
    """Run one as the command line says, and print its totals."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=210)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder for the report")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak", dir="/dev/shm", ignore_cleanup_errors=True) as folder:
        told, progress = soak(
            Path(folder),
            images=asked.images,
            count=asked.faults,
            minutes=asked.minutes,
            seed=asked.seed,
            tell=lambda line: print(line, flush=True),
        )
    report.write(asked.out, told, progress)
    print("\n".join(told["broken_promises"][:20]))
    print(history.Totals(**told["totals"]))
    return 0 if told["good"] else 1


if __name__ == "__main__":
    threading.excepthook = lambda args: print("in a thread:", args.exc_value, file=sys.stderr)
    sys.exit(main())
