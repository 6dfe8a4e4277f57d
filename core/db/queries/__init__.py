"""Every question that is put to the database, one module for each noun; run them by `core.db.database`."""
