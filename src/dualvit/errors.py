"""The errors that a user's mistake ends in: one base class, and a child per kind, each one line with the remedy.

Every child is also Python's own error of its kind, so `except ValueError` catches an `InputError`.
"""


class DualViTError(Exception):
    """A mistake that the message names, with the limit and the remedy."""


class InputError(DualViTError, ValueError):
    """A value, a setting or the content of a file cannot be used."""


class MissingFileError(DualViTError, FileNotFoundError):
    """A file or a folder is not there."""


class AccessError(DualViTError, OSError):
    """A file or a folder is there, and the system does not let it be read or written."""


class MissingExtraError(DualViTError, ModuleNotFoundError):
    """A library is missing; the message names the extra that brings it."""


class StateError(DualViTError, RuntimeError):
    """Something else stands in the way: another command at work, or a version that does not fit."""


class OptionError(DualViTError, TypeError):
    """An option has a name that is not known."""


def line_of(error: BaseException, most: int | None = None) -> str:
    r"""Return what an error says in one line, cut to so many characters; its type if it says nothing.

    Example:
        >>> line_of(ValueError("no\n  such file")), line_of(KeyError()), line_of(ValueError("too long"), 3)
        ('no such file', 'KeyError', 'too')
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
