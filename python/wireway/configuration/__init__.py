"""Configuration files: read, checked, shown, described. `wireway serve --config` runs them.

The map::

    load                   a file to a configuration, or all its mistakes       reading.py
    Configuration          the tables of a file                                 shape.py
    entries, Entry         every option: key, kind, unit, default, text         listing.py
    schema                 JSON Schema, for editors                             schema.py
    check_all              what can only be found wrong by making it            making.py
    as_toml, as_tables     the effective configuration, as a file               showing.py
    ConfigurationError     all that is wrong, each with its line                mistakes.py
"""

from wireway.configuration.listing import Entry, entries
from wireway.configuration.mistakes import ConfigurationError, Mistake
from wireway.configuration.reading import ReadConfiguration, load
from wireway.configuration.schema import schema
from wireway.configuration.shape import Configuration

__all__ = ["Configuration", "ConfigurationError", "Entry", "Mistake", "ReadConfiguration", "entries", "load", "schema"]
