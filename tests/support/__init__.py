"""Helpers of the tests that are no fixtures. Nothing here is part of the package."""
