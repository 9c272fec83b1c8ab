"""Training loop and its parts: hooks base, optimizer step, precision, EMA, interrupts and writers."""
