"""Environment variables that other packages read, set for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Within, the variables have these values; afterwards those that they had.

    >>> with environment(nnUNet_n_proc_DA="0"):
    ...     os.environ["nnUNet_n_proc_DA"]
    '0'
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
