"""Server on this machine: data folder, supervisor, ports, embedded Redis."""
