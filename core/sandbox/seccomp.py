"""Seccomp: deny a process all system calls but those that decoding an image needs.

The filter is an allow-list, as a BPF program: load the number of the call, compare it with each allowed one. Denied
calls fail with EPERM, so that a codec that asks for more than it needs goes on without it.
"""

import ctypes
import errno
import os
import platform
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
SET_MODE_FILTER, GET_ACTION_AVAIL, FILTER_FLAG_TSYNC = 1, 2, 1
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
DENY, NOT_IMPLEMENTED = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
LOAD, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF opcodes
NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16
CLONE_THREAD = 0x00010000
O_TMPFILE = 0o20000000
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | O_TMPFILE
F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC = 1, 2, 3, 1030
# Of each architecture: its name in the kernel's audit.h, the number of the system call `seccomp`, and its column below.
ARCHITECTURES = {"x86_64": (0xC000003E, 317, 0), "aarch64": (0xC00000B7, 277, 1)}
ABSENT = -1  # an older form of a call, which the architecture never had
CALLS = {
    "access": (21, ABSENT),
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "dup": (32, 23),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fadvise64": (221, 223),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getitimer": (36, 102),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "lseek": (8, 62),
    "lstat": (6, ABSENT),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "newfstatat": (262, 79),
    "poll": (7, ABSENT),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "pselect6": (270, 72),
    "read": (0, 63),
    "readlink": (89, ABSENT),
    "readlinkat": (267, 78),
    "readv": (19, 65),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "select": (23, ABSENT),
    "set_robust_list": (273, 99),
    "setitimer": (38, 103),
    "sigaltstack": (131, 132),
    "stat": (4, ABSENT),
    "statx": (332, 291),
    "sysinfo": (99, 179),
    "time": (201, ABSENT),
    "times": (100, 153),
    "uname": (63, 160),
    "write": (1, 64),
    "writev": (20, 66),
}
# Allowed with some arguments only, see `_conditional_calls`.
OPEN, OPENAT, CLONE, CLONE3 = (2, ABSENT), (257, 56), (56, 220), (435, 435)
KILL, TGKILL, FCNTL, PRLIMIT = (62, 129), (234, 131), (72, 25), (302, 261)

Instruction = tuple[int, int, int, int]
"""An opcode, how many instructions to skip if the comparison is true and if it is false, and an operand."""


class Program(ctypes.Structure):
    """A BPF program."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def is_available() -> bool:
    """Return whether this kernel has seccomp filters, and this module knows the architecture."""
    action = ctypes.c_uint32(ERRNO)
    architecture = ARCHITECTURES.get(platform.machine())
    return architecture is not None and not LIBC.syscall(architecture[1], GET_ACTION_AVAIL, 0, ctypes.byref(action))


def restrict_self() -> bool:
    """Deny this process, all its threads, what decoding does not need: sockets, programs, processes, writing files.

    The process must not be able to gain privileges (`PR_SET_NO_NEW_PRIVS`).

    Returns:
        Whether the filter is in force.
    """
    if not is_available():
        return False
    architecture, seccomp, column = ARCHITECTURES[platform.machine()]
    instructions = _filter(architecture, column)
    program = Program(len(instructions), b"".join(struct.pack("=HBBI", *each) for each in instructions))
    return bool(LIBC.syscall(seccomp, SET_MODE_FILTER, FILTER_FLAG_TSYNC, ctypes.byref(program)) == 0)


def _filter(architecture: int, column: int) -> list[Instruction]:
    numbers = [numbers[column] for numbers in CALLS.values() if numbers[column] != ABSENT]
    return [
        (LOAD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_OFFSET),
        *[each for numbers, body in _conditional_calls() for each in _if_call(numbers[column], body)],
        # Each comparison jumps over the rest of them and the denial.
        *[(JUMP_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)],
        (RETURN, 0, 0, DENY),
        (RETURN, 0, 0, ALLOW),
    ]


def _conditional_calls() -> list[tuple[tuple[int, int], list[Instruction]]]:
    """Return the calls whose arguments decide, each with the instructions that return the decision."""
    own_pid = os.getpid()
    return [
        (OPEN, _unless_any_bit(1, WRITE_FLAGS)),
        (OPENAT, _unless_any_bit(2, WRITE_FLAGS)),
        # A thread is confined as its process is, so codecs may start some.
        (CLONE, _branch_on_argument(0, JUMP_ANY_BIT, CLONE_THREAD, ALLOW, DENY)),
        (CLONE3, [(RETURN, 0, 0, NOT_IMPLEMENTED)]),  # its flags are in memory; glibc then uses clone
        (KILL, _branch_on_argument(0, JUMP_EQUAL, own_pid, ALLOW, DENY)),
        (TGKILL, _branch_on_argument(0, JUMP_EQUAL, own_pid, ALLOW, DENY)),
        (FCNTL, _if_any_equal(1, [F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC])),
        (PRLIMIT, _branch_on_argument(0, JUMP_EQUAL, 0, ALLOW, DENY)),  # its own limits, which it cannot raise
    ]


def _if_call(number: int, body: list[Instruction]) -> list[Instruction]:
    return [] if number == ABSENT else [(JUMP_EQUAL, 0, len(body), number), *body]


def _unless_any_bit(argument: int, bits: int) -> list[Instruction]:
    return _branch_on_argument(argument, JUMP_ANY_BIT, bits, DENY, ALLOW)


def _branch_on_argument(argument: int, opcode: int, operand: int, if_true: int, if_false: int) -> list[Instruction]:
    """Return `if_true` or `if_false` by a comparison of the lower half of an argument."""
    load = (LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * argument)
    return [load, (opcode, 0, 1, operand), (RETURN, 0, 0, if_true), (RETURN, 0, 0, if_false)]


def _if_any_equal(argument: int, values: list[int]) -> list[Instruction]:
    comparisons = [(JUMP_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    load = (LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * argument)
    return [load, *comparisons, (RETURN, 0, 0, DENY), (RETURN, 0, 0, ALLOW)]
