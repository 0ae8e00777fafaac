"""Patients → training, validation and test: never one patient in two sets, each type in all three."""

from collections.abc import Collection, Mapping

import numpy as np

SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}
"""The paper's split (Sec. 4.1: 20 % for testing, of the rest 20 % for validation)."""


def split_patients(types_of: Mapping[str, Collection[str]], seed: int) -> dict[str, list[str]]:
    """Which patients each set holds; `types_of` names the tumour types that a patient has.

    Iterative stratification (Sechidis et al., ECML PKDD 2011): the rarest type is dealt out first, each
    patient to the set that still misses most of that type. A set that few patients left empty gets one of
    the largest set. The same patients and seed give the same split,
    in whatever order they come.

    >>> split_patients({f"p{i}": ["cyst"] for i in range(25)}, seed=0)["val"]
    ['p1', 'p20', 'p24', 'p5']
    """
    rng = np.random.default_rng(seed)
    waiting = [sorted(types_of)[i] for i in rng.permutation(len(types_of))]
    sets: dict[str, list[str]] = {name: [] for name in SHARES}

    def missing(name: str, group: Collection[str]) -> float:
        return SHARES[name] * len(group) - len(set(sets[name]) & set(group))

    while waiting:
        kinds = {kind for patient in waiting for kind in types_of[patient]}
        rarest = min(sorted(kinds), key=lambda kind: sum(kind in types_of[p] for p in waiting), default=None)
        alike = [p for p in types_of if rarest is None or rarest in types_of[p]]
        for patient in [p for p in waiting if p in alike]:
            chosen = max(sets, key=lambda name: (missing(name, alike), missing(name, types_of)))
            sets[chosen].append(patient)
            waiting.remove(patient)
    for name in sets:
        largest = max(sets, key=lambda other: (len(sets[other]), other != "train"))
        if not sets[name] and len(sets[largest]) > 1:
            sets[name].append(sets[largest].pop())
    return {name: sorted(patients) for name, patients in sets.items()}
