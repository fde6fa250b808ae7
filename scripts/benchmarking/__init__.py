"""What scripts/benchmark.py is made of: settings, programs, operations, peers, and the table."""
