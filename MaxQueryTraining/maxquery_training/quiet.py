"""nnU-Net prints what it writes to its log, too; what libraries warn of is for developers."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def quiet() -> Iterator[None]:
    """Within, neither is shown. Programs and Slicer read stdout, and take any text on stderr for a failure."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
