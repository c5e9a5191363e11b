"""Cases, records, the record file, and what measurements share."""
