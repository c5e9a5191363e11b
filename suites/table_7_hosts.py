"""Table 7: the four hosts."""

from suites import table_suite

test_row = table_suite(7)
