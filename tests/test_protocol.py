"""The protocol of the synchronous channel, exhaustively; and that the check would notice."""

from __future__ import annotations

import channel_model as model
import pytest
from channel_model import BLOCKS, FORK, LEAVE, QUICK, RIGHTS, Hostile, Protocol, Violation

SAME = (0, 0)  # both pollers have the group's rights
OTHER = (0, 1)  # the second one's match only after a RIGHTS call


@pytest.mark.parametrize(
    ("calls", "rights", "signals"),
    [
        ((QUICK, QUICK, QUICK), SAME, 1),
        ((QUICK,), SAME, 3),
        ((BLOCKS, QUICK), SAME, 1),
        ((QUICK, RIGHTS, QUICK), OTHER, 1),
        ((RIGHTS, BLOCKS), OTHER, 1),
        ((QUICK, FORK, QUICK), SAME, 1),
        ((QUICK, LEAVE, QUICK), SAME, 1),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_the_protocol_holds(calls: tuple[str, ...], rights: tuple[int, ...], signals: int) -> None:
    assert model.verify(Protocol(calls, rights=rights, signals=signals))


def test_a_hostile_hrt_harms_nobody_else() -> None:
    assert model.verify(Hostile())


TWO = (QUICK, QUICK)
MUTATIONS = {
    # Who acts for the group.
    "poller takes without asking": (TWO, model.TWO_ACTORS),
    "partner takes without asking": (TWO, model.TWO_ACTORS),
    "group let go before the answer": ((QUICK, RIGHTS, QUICK), model.TWICE),
    # What became of the request.
    "state not looked at again": (TWO, model.TWICE),
    "ANSWERED not looked at": ((QUICK, RIGHTS, QUICK), model.TWICE),
    "HRT does not write FREE": (TWO, model.RESULT),
    "partner does not write FREE": (TWO, model.TWICE),
    "an exit for nothing frees the slot": (TWO, model.SIGNAL),
    "REFUSED taken for an answer": (TWO, model.RESULT),
    "interrupted call answered": ((BLOCKS, QUICK), model.RESULT),
    # Memory order.
    "result after state": (TWO, model.RESULT),
    "stores out of order": (TWO, model.RESULT),
    "an exit leaves stores behind": (TWO, model.LOST_WAKE),
    # Rights.
    "rights looked at before taking only": ((QUICK, RIGHTS, QUICK), model.NO_RIGHT),
    "rights looked at after taking only": ((QUICK, RIGHTS, QUICK), model.STARVED),
    "rights keep their number": ((QUICK, RIGHTS, QUICK), model.NO_RIGHT),
    "leaves with pollers": ((QUICK, LEAVE, QUICK), model.OUTLIVES),
    # Signals.
    "kick in the entry left alone": (TWO, model.LATE),
    "return taken for a request": (TWO, model.SIGNAL),
    "an answered call is begun again": (TWO, model.SIGNAL),
    "signal after a call not begun": (TWO, model.SIGNAL),
    # Waiting.
    "wake-up forgotten": (TWO, model.LOST_WAKE),
    "no word to the poller": (TWO, model.LOST_WAKE),
    "sleeps without comparing": (TWO, model.LOST_WAKE),
    "interrupts once": ((BLOCKS, QUICK), model.STUCK),
    "no interruption": ((BLOCKS, QUICK), model.STUCK),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_what_the_protocol_cannot_do_without(mutation: str) -> None:
    calls, what = MUTATIONS[mutation]
    signals = 0 if RIGHTS in calls else 1
    protocol = Protocol(calls, rights=OTHER if RIGHTS in calls else SAME, signals=signals)
    protocol.mutation = mutation
    with pytest.raises(Violation) as caught:
        model.verify(protocol)
    assert caught.value.what == what, caught.value
    assert caught.value.trace


@pytest.mark.parametrize(
    ("mutation", "what"),
    [
        ("poller takes without asking", model.TWO_ACTORS),
        ("partner takes without asking", model.TWO_ACTORS),
        ("rights looked at before taking only", model.NO_RIGHT),
        ("wake-up forgotten", model.LOST_WAKE),
        ("no word to the poller", model.LOST_WAKE),
        ("sleeps without comparing", model.LOST_WAKE),
    ],
)
def test_what_holds_a_hostile_hrt(mutation: str, what: str) -> None:
    with pytest.raises(Violation) as caught:
        model.verify(Hostile(mutation=mutation))
    assert caught.value.what == what, caught.value
