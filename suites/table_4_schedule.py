"""Table 4: numbers of kept frames r and blocks b."""

from suites import table_suite

test_row = table_suite(4)
