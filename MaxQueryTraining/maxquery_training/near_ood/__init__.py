"""The benchmark: MaxQuery beside other ways to find what a network never learned (the paper's Tables 1–4)."""
