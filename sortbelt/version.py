"""The version of the client: that of `core/version.py`, with which a test compares it.

Reading it from the metadata of the installed package takes longer than most of the start of a command.
"""

VERSION = "0.2.0"
