"""What can go wrong, told to the person who can mend it."""


class MaxQueryError(Exception):
    """Says what is wrong and what was found (`message`), and what to do about it (`hint`).

    `code` is a short stable name for programs, `exit_code` what the command line returns.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, hint: str = ""):
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(MaxQueryError):
    """The image, the bundle or an argument cannot be used as it is."""

    exit_code = 2


class MachineError(MaxQueryError):
    """The machine lacks something: memory, disk, a device, a package."""

    exit_code = 3


class Cancelled(MaxQueryError):
    """Somebody asked the run to stop."""

    exit_code = 130

    def __init__(self, message: str = "Stopped on request; nothing was written.") -> None:
        super().__init__("cancelled", message)
