"""`python -m tests.fuzz MINUTES`: bent pictures at the decoder's door; what breaks it is kept in ./fuzz, and exit 1."""

import sys
import time
from pathlib import Path

from tests.fuzz import door, mutations

FOUND = Path("fuzz")


def main(minutes):
    """Knock until the time is up; how many did what none may do."""
    knocked, broken, seed = door.Door(FOUND), [], int(time.time())
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        for sentence in knocked.knock(mutations.some(seed, 64)):
            broken.append(sentence)
            print(f"seed {seed}: {sentence}", flush=True)
        seed += 1
    knocked.close()
    told = ", ".join(f"{count:,} x {what or 'decoded'}" for what, count in sorted(knocked.seen.items(), key=str))
    print(f"{told}; {len(broken)} broke something")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
