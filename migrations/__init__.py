"""The database's history, one step at a time; `python -m migrations` brings a database up to date."""
