"""Services that people start as they are, each a page long, each on the public API only."""
