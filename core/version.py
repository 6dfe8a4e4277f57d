"""The version of Sortbelt: the build reads it here; `sortbelt/version.py` has the same.

The container images hold the folders and no installed package, so the server's programs import this module.
"""

VERSION = "0.2.0"
