"""The command line: a command parses flags, makes one call, prints, and exits. Only this package prints."""
