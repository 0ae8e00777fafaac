"""What can go wrong, told to the person who can mend it."""


class MaxQueryError(Exception):
    """Says what is wrong and what was found (`message`), and what to do about it (`hint`).

    `code` is a short stable name for programs, `exit_code` what the command line returns.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, hint: str = ""):
        super().__init__(code, message, hint)  # what a child process sends back makes it again
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

    def __init__(self, message: str = "Stopped on request; nothing unfinished was left behind.") -> None:
        super().__init__("cancelled", message)
        self.args = (message,)


def unforeseen(error: Exception) -> MaxQueryError:
    """Any other exception in words: the memory, a file that the system refuses, or else a mistake of ours."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):  # the latter torch's, on a CPU
        return MachineError("memory", "The machine ran out of memory.", "Close other programs, or crop the CT.")
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        sentence = f"{error.filename}: {reason}." if error.filename else f"{reason}."
        return MachineError("file", sentence, "Check the path, who may read and write there, and the disk.")
    sentence = f"Something went wrong inside MaxQuery: {type(error).__name__}: {error}"
    return MaxQueryError("bug", sentence, "Run again with --traceback before the command, and report what it prints.")
