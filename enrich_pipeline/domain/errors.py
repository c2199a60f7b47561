"""The errors that this package raises on purpose, by what a person can do about them.

Messages hold names of settings, ids and counts, never keys, passwords or values of persons.
"""


class EnrichError(Exception):
    """Base of every error raised on purpose; the command line answers it with exit code 1."""


class ConfigurationError(EnrichError):
    """The set-up is wrong; the message names the setting to change or the command to run.

    The command line answers it with exit code 2, before anything was spent.
    """
