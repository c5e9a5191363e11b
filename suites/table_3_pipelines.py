"""Table 3: inference pipelines."""

from suites import table_suite

test_row = table_suite(3)
