"""The decision is the procedure's table, and the comparison notices when a rule is gone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from fac_backup.policy import authorization, people, rules
from fac_backup.policy.authorization import decide
from fac_backup.policy.case import Case
from fac_backup.policy.facts import Check, Membership
from tests import policy_oracle

MATRIX = policy_oracle.fac_matrix()
NEIGHBOURS = list(policy_oracle.neighbours())


def test_a_sample_of_all_combinations_is_allowed_exactly_as_the_table_says():
    # Every 101st; `python -m tests.policy_oracle` tries all of them.
    counts, differ = policy_oracle.disagreements(itertools.islice(policy_oracle.product(), 0, None, 101), MATRIX)
    assert differ == []
    assert counts["tried"] > 2000
    assert counts["allowed"] > 200


def test_every_combination_that_the_table_allows_is_tried_with_each_of_its_neighbours():
    counts, differ = policy_oracle.disagreements(NEIGHBOURS, MATRIX)
    assert differ == []
    assert counts["allowed: restore"] > 100


def test_what_the_table_allows_is_allowed_in_every_one_of_its_combinations():
    counts, differ = policy_oracle.disagreements(policy_oracle.allowed_by_the_table(), MATRIX)
    assert differ == []
    assert counts["allowed"] == counts["tried"] > 500


def noticed() -> bool:
    """Whether code and table differ in any neighbour."""
    return any(
        decide(policy_oracle.facts(case), MATRIX).allowed is not policy_oracle.expected(case) for case in NEIGHBOURS
    )


# `protected` is a second lock on a door that the FAC's paths keep shut already; test_authorization opens the first.
SECOND_LOCKS = {rules.protected_is_asked}


@pytest.mark.parametrize(
    "rule", [rule for rule in rules.RULES if rule not in SECOND_LOCKS], ids=lambda rule: rule.__name__
)
def test_a_rule_that_goes_missing_is_noticed(rule: Callable[[Case], Iterator[Check]], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authorization, "RULES", tuple(other for other in rules.RULES if other is not rule))
    assert noticed()


def test_a_pending_invitation_that_counts_as_membership_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(policy_oracle._MEMBERSHIPS, "pending", Membership.MEMBER)
    assert noticed()


def test_a_check_of_the_actor_alone_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(people, "who_to_check", lambda run: (("actor", run.actor),))
    assert noticed()


def test_a_path_too_many_in_the_matrix_is_noticed():
    text = (policy_oracle.Path(__file__).parents[3] / "action-matrix.yml").read_text()
    more = policy_oracle.load(text + "  - {source: dev, target: production, when: manual}\n")
    _, differ = policy_oracle.disagreements(NEIGHBOURS, more)
    assert differ
