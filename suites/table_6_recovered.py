"""Table 6: numbers of recovered frames f."""

from suites import table_suite

test_row = table_suite(6)
