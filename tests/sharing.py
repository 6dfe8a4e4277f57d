"""How `make test` shares the tests out among processes: file by file, the long ones first."""

from xdist.scheduler import LoadScopeScheduling

# These kill and freeze processes, and look at the clock: one at a time, while the other processes run all else.
IN_TURN = ("tests/faults/", "tests/soak/")
# What starts whole stacks takes longest; who has it last would keep the others waiting.
FIRST = (*IN_TURN, "tests/e2e/", "tests/docs/")


class Sharing(LoadScopeScheduling):
    """A file is for one process, from its first test to its last; so are all that run in turn."""

    def __init__(self, config, log):
        config.option.loadscopereorder = False  # they are in order
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return "in turn" if file.startswith(IN_TURN) else file


def in_order(items):
    """The tests, with the long files first."""
    return sorted(items, key=lambda item: next((n for n, name in enumerate(FIRST) if name in item.nodeid), len(FIRST)))
