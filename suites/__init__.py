"""pytest-benchmark suites, one per table of the paper: ``pytest suites/table_2_strategies.py``."""
