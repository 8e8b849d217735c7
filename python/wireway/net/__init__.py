"""Servers and their connections. The native half is `wireway._native`."""
