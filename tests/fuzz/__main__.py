"""`python -m tests.fuzz MINUTES`: feed mutated images to the decoder; failures are kept in ./fuzz (exit code 1)."""

import sys
import time
from pathlib import Path

from tests.fuzz import decoder_target, mutations

FINDINGS_DIR = Path("fuzz")


def main(minutes):
    """Feed mutated images until the time is up; return 1 if any of them broke the decoder."""
    target, failures, seed = decoder_target.DecoderTarget(FINDINGS_DIR), [], int(time.time())
    deadline = time.monotonic() + minutes * 60
    while time.monotonic() < deadline:
        for message in target.feed(mutations.generate(seed, 64)):
            failures.append(message)
            print(f"seed {seed}: {message}", flush=True)
        seed += 1
    target.close()
    summary = ", ".join(
        f"{count:,} x {outcome or 'decoded'}" for outcome, count in sorted(target.outcome_counts.items(), key=str)
    )
    print(f"{summary}; {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
