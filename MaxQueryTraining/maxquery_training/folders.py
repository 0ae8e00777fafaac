"""Where nnU-Net finds and leaves its files."""

import os
from pathlib import Path


def set_folders(work: Path, processes: int) -> None:
    """Tells nnU-Net where its folders are; it reads the environment when it is imported."""
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_n_proc_DA"] = str(max(1, processes - 1))
