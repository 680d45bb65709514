"""How often Python looks for garbage while a run has rows in its hands."""

import gc

from flows import USUAL


def collect_as_usual() -> None:
    """As often as where nothing was set.

    Batches of rows stay in memory as long as garbage refers to them: searched for rarely, a full night took twice as
    much.
    """
    gc.set_threshold(*USUAL)
