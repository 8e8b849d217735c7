"""Processes: what runs a server in one process or in many, and ends it. Nothing is implemented here."""
