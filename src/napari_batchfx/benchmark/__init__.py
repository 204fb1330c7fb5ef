"""The benchmark of the adaptation: real scanners, a real pair, simulated scanners."""
