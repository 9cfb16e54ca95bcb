"""The rule that opens and closes signatures, on plain data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.worker.comparing import Evidence
from tidegate.inference.worker.joining import (
    HOPELESS,
    LONGEST_PAUSE,
    MAX_SIGNATURES,
    PROOFS,
    REPEAT_AFTER,
    REPEAT_FIRST_AFTER,
    Decision,
    Finding,
    Signatures,
)

X = "signature"


def opened(evidence: Evidence = Evidence.STRONG, signature: str = X) -> Signatures:
    rule = Signatures()
    prove(rule, evidence, signature)
    return rule


def prove(rule: Signatures, evidence: Evidence = Evidence.STRONG, signature: str = X) -> None:
    for batch in range(PROOFS):
        assert rule.decide(signature) is Decision.PROVE
        assert rule.agreed(signature, [2 * batch, 2 * batch + 1], evidence) is Finding.PROVED


def joined_until_the_next_proof(rule: Signatures, signature: str = X) -> int:
    count = 0
    while rule.decide(signature) is Decision.JOIN:
        rule.passed(signature)
        count += 1
    return count


def test_three_batches_that_agree_open_a_signature_and_no_other() -> None:
    rule = opened()
    assert rule.decide(X) is Decision.JOIN
    assert rule.decide("another") is Decision.PROVE


def test_a_batch_needs_two_contents() -> None:
    rule = Signatures()
    assert not rule.promising([])
    assert not rule.promising([1])
    assert not rule.promising([1, 1, 1])
    assert rule.promising([1, 2, 1])


def test_the_same_batch_again_counts_for_numbers_and_not_for_labels() -> None:
    """Clients that send the same requests again and again are many; labels that agreed by chance would do so again."""
    rule = Signatures()
    found = [rule.agreed(X, [1, 2], Evidence.WEAK) for _ in range(2)]
    assert found == [Finding.PROVED, Finding.INCONCLUSIVE]
    assert rule.agreed(X, [2, 1], Evidence.WEAK) is Finding.PROVED
    assert rule.agreed(X, [1, 2], Evidence.STRONG) is Finding.PROVED
    assert rule.decide(X) is Decision.JOIN


@pytest.mark.parametrize("before", range(PROOFS + 1))
def test_a_difference_closes_for_good_however_much_was_proved(before: int) -> None:
    rule = Signatures()
    for batch in range(before):
        rule.agreed(X, [2 * batch, 2 * batch + 1], Evidence.STRONG)
    assert rule.refuse(X), "the first one is worth a warning"
    assert rule.decide(X) is Decision.SINGLE
    rule.doubt(X)
    assert rule.decide(X) is Decision.SINGLE


@pytest.mark.parametrize("evidence", [Evidence.WEAK, Evidence.STRONG])
def test_a_proof_is_repeated_soon_and_then_less_and_less_often(evidence: Evidence) -> None:
    rule = opened(evidence)
    found = []
    for _ in range(8):
        found.append(joined_until_the_next_proof(rule))
        rule.agreed(X, [1, 2], evidence)
    assert found == [REPEAT_FIRST_AFTER, 32, 64, 128, 256, 512, REPEAT_AFTER, REPEAT_AFTER]


def test_a_call_has_no_more_requests_than_a_proof_had_and_more_are_proved_first() -> None:
    rule = opened()
    assert rule.most(X) == 2
    rule.came(X, 2, unlike=False)
    assert rule.decide(X) is Decision.JOIN
    rule.came(X, 8, unlike=False)
    assert rule.decide(X) is Decision.PROVE
    rule.agreed(X, [*range(8)], Evidence.STRONG)
    assert (rule.most(X), rule.decide(X)) == (8, Decision.JOIN)


def test_more_requests_than_are_done_in_time_are_not_proved() -> None:
    rule = opened()
    rule.limit(X, 2)
    rule.came(X, 8, unlike=False)
    assert rule.decide(X) is Decision.JOIN


def test_what_varies_for_the_first_time_is_proved_before_it_may() -> None:
    rule = opened()
    assert rule.varied(X) == set()
    rule.came(X, 2, unlike=True)
    assert rule.decide(X) is Decision.PROVE
    rule.agreed(X, [1, 2], Evidence.STRONG, {("t",)})
    assert (rule.varied(X), rule.decide(X)) == ({("t",)}, Decision.JOIN)


@pytest.mark.parametrize("evidence", [Evidence.NONE, Evidence.STRONG])
def test_what_goes_beyond_the_proofs_is_tried_ever_more_seldom_where_that_widens_nothing(evidence: Evidence) -> None:
    rule, joined = opened(), []
    for _ in range(6):
        joined.append(0)
        rule.came(X, 2, unlike=True)
        while rule.decide(X) is Decision.JOIN:
            rule.passed(X)
            joined[-1] += 1
            rule.came(X, 2, unlike=True)
        rule.agreed(X, [1, 2], evidence)
    assert joined[0] == 0
    assert joined[1:] == sorted(joined[1:])
    assert joined[-1] >= 5


def test_what_proves_nothing_is_tried_after_pauses_that_double() -> None:
    rule, pauses = Signatures(), []
    for _ in range(13):
        assert rule.decide(X) is Decision.PROVE
        assert rule.agreed(X, [1, 2], Evidence.NONE) is Finding.INCONCLUSIVE
        pauses.append(0)
        while rule.decide(X) is Decision.WAIT:
            rule.passed(X)
            pauses[-1] += 1
    assert pauses == [*(2**n for n in range(11)), LONGEST_PAUSE, LONGEST_PAUSE]


def test_an_open_signature_whose_requests_are_all_alike_stays_open() -> None:
    """Else one client that repeats its request for ever would take the joined call from everybody after a while."""
    rule = opened()
    joined_until_the_next_proof(rule)
    joined = []
    for _ in range(5):
        assert rule.decide(X) is Decision.PROVE
        rule.unpromising(X)
        joined.append(joined_until_the_next_proof(rule))
    assert joined == [1, 2, 4, 8, 16]


def test_a_batch_that_is_not_tried_costs_a_signature_that_is_not_open_nothing() -> None:
    rule = Signatures()
    rule.unpromising(X)
    assert rule.decide(X) is Decision.PROVE


def test_a_doubt_asks_for_all_the_proofs_again() -> None:
    rule = opened()
    rule.doubt(X)
    assert rule.decide(X) is Decision.PROVE
    prove(rule)
    assert rule.decide(X) is Decision.JOIN


def test_only_the_first_refusal_and_those_of_open_signatures_are_worth_a_warning() -> None:
    rule = opened()
    assert [rule.refuse(name) for name in ("a", "b", "c")] == [True, False, False]
    assert rule.refuse(X)


def test_a_model_that_is_refused_again_and_again_is_not_tried_any_more() -> None:
    rule = Signatures()
    for number in range(HOPELESS):
        assert rule.decide(number) is Decision.PROVE
        rule.refuse(number)
    assert rule.decide("another") is Decision.SINGLE


def test_a_model_of_which_something_was_proved_is_tried_again_whatever_was_refused() -> None:
    rule = opened()
    for number in range(2 * HOPELESS):
        rule.refuse(number)
    assert rule.decide("another") is Decision.PROVE


def test_no_more_signatures_are_remembered_than_there_may_be() -> None:
    rule = opened()
    for number in range(2 * MAX_SIGNATURES):
        rule.decide(number)
        rule.decide(X)
    assert len(rule._known) == MAX_SIGNATURES
    assert rule.decide(X) is Decision.JOIN, "the one in use is not forgotten"


STEPS = st.one_of(
    st.tuples(st.just("agreed"), st.sets(st.integers(0, 5), min_size=2, max_size=3), st.sampled_from(list(Evidence))),
    st.tuples(st.sampled_from(["passed", "undecided", "unpromising", "doubt", "refuse"])),
)


@given(st.lists(STEPS, max_size=40))
def test_nothing_is_joined_without_three_proofs_since_the_last_doubt_nor_after_a_refusal(
    steps: list[tuple],  # type: ignore[type-arg]
) -> None:
    rule, proofs, refused = Signatures(), 0, False
    for name, *arguments in steps:
        if name == "agreed" and (rule.decide(X) is not Decision.PROVE or not rule.promising(arguments[0])):
            continue
        found = getattr(rule, name)(X, *arguments)
        proofs += found is Finding.PROVED
        proofs = 0 if name == "doubt" else proofs
        refused = refused or name == "refuse"
        assert rule.decide(X) is not Decision.JOIN or (proofs >= PROOFS and not refused)
