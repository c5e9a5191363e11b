"""Table 5: input length, HoT and H2OT."""

from suites import table_suite

test_row = table_suite(5)
