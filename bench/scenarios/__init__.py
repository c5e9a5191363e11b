"""What combines measurements: sweeps of tables, streaming, runtimes, peers, and the like."""
