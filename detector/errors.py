"""The one exception for what a user must mend; tools print its message as one sentence and exit with code 2."""


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what, where, and the remedy, without a traceback."""
