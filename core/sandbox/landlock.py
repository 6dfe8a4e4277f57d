"""Landlock: take file access, TCP and signals to other processes from this process (Linux 5.13 and later)."""

import contextlib
import ctypes
import os
from collections.abc import Iterable

LIBC = ctypes.CDLL(None, use_errno=True)
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# How many kinds of access each version of the interface (ABI) knows: of files, of TCP, and to other processes.
FILE_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
TCP_ABI, TCP_ACCESS = 4, 0b11
SCOPE_ABI, SCOPES = 6, 0b11  # abstract Unix sockets, and signals


class RulesetAttributes(ctypes.Structure):
    """The kinds of access that a ruleset denies unless a rule allows them."""

    _fields_ = (("file_access", ctypes.c_uint64), ("tcp_access", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class PathRule(ctypes.Structure):
    """The kinds of access that are allowed beneath a folder."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


def abi_version() -> int:
    """Return the version of the interface that this kernel has; 0 if it has none, or it is disabled."""
    version: int = LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(CREATE_RULESET_VERSION))
    return max(version, 0)


def restrict_self(readable_folders: Iterable[str]) -> bool:
    """Deny all access to files except reading beneath these folders, and what else this kernel can deny.

    Open descriptors stay usable. The process must not be able to gain privileges (`PR_SET_NO_NEW_PRIVS`).

    Returns:
        Whether the denial is in force.
    """
    abi = abi_version()
    ruleset = _create_ruleset(abi) if abi else -1
    if ruleset < 0:
        return False
    try:
        for folder in readable_folders:
            with contextlib.suppress(OSError):  # a folder that does not exist needs no rule
                _allow_reading(ruleset, folder)
        return bool(LIBC.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _create_ruleset(abi: int) -> int:
    attributes = RulesetAttributes(
        (1 << FILE_ACCESS_BITS.get(abi, max(FILE_ACCESS_BITS.values()))) - 1,
        TCP_ACCESS if abi >= TCP_ABI else 0,
        SCOPES if abi >= SCOPE_ABI else 0,
    )
    size = 24 if abi >= SCOPE_ABI else 16 if abi >= TCP_ABI else 8
    ruleset: int = LIBC.syscall(CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    return ruleset


def _allow_reading(ruleset: int, folder: str) -> None:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = PathRule(READ_FILE | READ_DIR, descriptor)
        if LIBC.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "Landlock rejects a rule")
    finally:
        os.close(descriptor)
