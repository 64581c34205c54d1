"""The command line: an edge that people type at, and that works on the database by the services."""
