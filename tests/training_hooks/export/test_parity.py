"""Which bound is recorded of a form: the tightest that it keeps."""

import torch

from tidegate.training_hooks.export.parity import Bound, tightest

OWN, ASKED = Bound(rtol=0.0, atol=1e-5), Bound(rtol=0.0, atol=0.05)
EAGER = [torch.zeros(2, 3)]


def test_a_form_that_keeps_the_examples_bound_is_held_to_it_whatever_another_needs() -> None:
    """On every batch; what keeps no bound is out of the last one."""
    exact, half, wrong = ([torch.full((2, 3), apart)] for apart in (1e-6, 0.01, 0.1))
    assert tightest([(EAGER, exact)], [OWN, ASKED])[1] == OWN
    assert tightest([(EAGER, exact), (EAGER, half)], [OWN, ASKED])[1] == ASKED
    parity, bound = tightest([(EAGER, wrong), (EAGER, exact)], [OWN, ASKED])
    assert (bound, parity.excess > 0) == (ASKED, True)
