"""The version of the server: of all its programs together. In the images it is not installed as a package."""

VERSION = "0.1.0"
