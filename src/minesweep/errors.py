"""The one exception whose text is shown to the user as it stands, on one line."""


class UserError(Exception):
    """Something that the user can mend: a wrong key, a missing file, a loss that is NaN.

    The entries print its message and exit with status 1, without a traceback
    (``HYDRA_FULL_ERROR=1`` shows one). The message is one line and says what to do.
    """
