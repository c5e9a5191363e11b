"""The regression gate: base and head, measured or read, to verdicts and an exit code."""
