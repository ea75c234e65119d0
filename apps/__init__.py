"""Ryu applications, thin: the only code here that knows Ryu or eventlet."""
