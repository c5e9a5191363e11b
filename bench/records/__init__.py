"""What was measured of what, where: cases, records and the file that keeps them."""
