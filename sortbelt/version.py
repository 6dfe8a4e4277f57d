"""The version of Sortbelt: the build, the client and the programs of the server read it here.

Reading it from the metadata of the installed package takes longer than most of the start of a command, and in the
container images no package is installed.
"""

VERSION = "0.2.0"
