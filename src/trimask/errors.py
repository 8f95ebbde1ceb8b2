"""The base class of errors that users can fix."""


class UserError(ValueError):
    """An input cannot be used. The message says what is wrong, with the value, and what to do.

    A plain ValueError is a bug, in trimask or a library, and is shown with its traceback.
    """
