"""What the API and the worker agree on: tables, SQL, picture bytes, the bell, settings, errors."""
