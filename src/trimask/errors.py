"""The error that is for users."""


class UserError(ValueError):
    """What was given cannot be used. The message says what is wrong, with the value, and what to do.

    A plain ValueError is a bug of ours or of a library, and is shown as one.
    """
