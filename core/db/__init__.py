"""The database: tables, engine, clock and every query."""
