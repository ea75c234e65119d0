"""Mininet topologies, the testbed that runs the whole system on them, and the demonstration."""
