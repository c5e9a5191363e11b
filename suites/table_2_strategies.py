"""Table 2: pruning and recovering strategies."""

from suites import table_suite

test_row = table_suite(2)
