"""`python -m tests.soak`: submit images while faults are injected, then account for every image.

Exit code 1 unless lost = duplicated = unexpected = stuck = 0.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.soak import faults, history, hostile, load, report, stack

WARM_UP_SECONDS = 3.0
STALL_SECONDS = 60.0  # without progress for this long, the unfinished images count as stuck


def run_soak(folder, *, images, fault_count, minutes, seed, kinds=None, is_hostile=False, log=print, **settings):
    """Run one soak; return its summary and the progress samples over time.

    Args:
        folder: an empty folder for the stack.
        images: number of images to submit, in addition to those that belong to faults.
        fault_count: number of faults to inject.
        minutes: duration over which submissions and faults are spread.
        seed: chooses the faults, their order and their victims.
        kinds: kinds of faults to inject; all by default.
        is_hostile: whether one key floods the server meanwhile, and another one's images are timed.
        log: receives a progress line after each fault.
        settings: product settings that differ from the defaults.
    """
    rng = random.Random(seed)  # noqa: S311 (a seed, not a secret)
    soak_stack = stack.SoakStack.start_in(folder, **settings)
    try:
        recorded, started = history.History(), time.monotonic()
        image_load = load.Load(soak_stack, recorded, images, minutes * 60, started)
        image_load.learn_labels()
        tenants = hostile.HostileTenants(soak_stack, image_load.pool[0]) if is_hostile else None
        if tenants is not None:
            tenants.start()
        image_load.started = started = time.monotonic()
        soak_stack.supervise(started)
        image_load.start()
        time.sleep(WARM_UP_SECONDS)
        fault_order = _shuffle_faults(kinds or faults.FaultInjector.kinds(), fault_count, rng)
        injector = faults.FaultInjector(soak_stack, image_load, rng)
        injected = _inject_faults(injector, fault_order, started, minutes * 60, log)
        image_load.join(minutes * 60)
        if tenants is not None:
            tenants.stop()
        task_seconds = soak_stack.wait_until_drained(STALL_SECONDS)
        totals, violations = recorded.check(soak_stack.all_results(), soak_stack.open_image_names())
        soak_stack.check_invariants()
        options = {"images": images, "faults": fault_count, "minutes": minutes, "seed": seed, "settings": settings}
        seconds = time.monotonic() - started
        summary = report.build_summary(
            recorded, totals, violations, injected, soak_stack, options, seconds, task_seconds
        )
        if tenants is not None:
            summary["hostile"] = tenants.summary(injector.outages)
            summary["ok"] = summary["ok"] and summary["hostile"]["ok"]
        return summary, soak_stack.progress
    finally:
        try:
            soak_stack.close()
        except Exception as error:  # noqa: BLE001 (a failed shutdown must not hide the outcome of the soak)
            log(f"the stack did not shut down cleanly: {type(error).__name__}: {error}")


def _shuffle_faults(kinds, count, rng):
    """Return `count` kinds, each as often as the others, in an order chosen by the seed."""
    order = []
    while len(order) < count:
        round_ = list(kinds)
        rng.shuffle(round_)
        order += round_
    return order[:count]


def _inject_faults(injector, kinds, started, seconds, log):
    """Inject one fault after another, spread over the duration; return (start, end, kind) of each."""
    injected = []
    pause = (seconds - WARM_UP_SECONDS) / max(1, len(kinds))
    for number, kind in enumerate(kinds):
        # On a machine too busy for the schedule, faults at the same moment would hit nothing but dead processes.
        planned = started + WARM_UP_SECONDS + number * pause - time.monotonic()
        time.sleep(max(planned, pause / 2 if number else 0.0))
        at = time.monotonic() - started
        try:
            injector.inject(kind)
        except Exception as error:  # noqa: BLE001 (injecting may fail because of an earlier fault; it is logged and still counted)
            log(f"{kind}: {type(error).__name__}: {error}")
        injected.append((at, time.monotonic() - started, kind))
        ended = injector.stack.progress[-1][1] if injector.stack.progress else 0
        log(f"{at:7.1f} s  fault {number + 1}: {kind}; {ended:,} images have finished")
    return injected


def main():
    """Run one soak with the options of the command line and print its totals."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=210)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hostile", action="store_true", help="one key floods the server meanwhile")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder for the report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak", dir="/dev/shm", ignore_cleanup_errors=True) as folder:
        summary, progress = run_soak(
            Path(folder),
            images=args.images,
            fault_count=args.faults,
            minutes=args.minutes,
            seed=args.seed,
            is_hostile=args.hostile,
            log=lambda line: print(line, flush=True),
        )
    report.write(args.out, summary, progress)
    print("\n".join(summary["violations"][:20]))
    print(json.dumps(summary.get("hostile", {})))
    print(history.Totals(**summary["totals"]))
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    threading.excepthook = lambda args: print("in a thread:", args.exc_value, file=sys.stderr)
    sys.exit(main())
