"""Coverage-guided fuzzing: targets with exact expectations, the inputs worth keeping, and what was found.

`python -m fuzz 60` (from tests/) fuzzes every target for 60 seconds in total, `python -m fuzz decoder FILE` repeats one
input; both need atheris. The ordinary suite replays corpus and findings without it (test_fuzz_corpus.py).
"""
