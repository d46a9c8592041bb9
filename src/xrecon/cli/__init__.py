"""The command line: one file per command, each nothing but parse, call, write. No heavy import at module level."""
