"""The one-standard-error rule, against a naive bootstrap and on cases with a known answer."""

import numpy as np
import pytest

from benchmark.errors import UsageError
from data_manifests.builders.one_standard_error import Candidate, check_grid, choose, compare


def naive_error(difference, tasks, groups, draws=4000):
    """Standard deviation of the mean over tasks when groups are drawn one by one."""
    rng = np.random.default_rng(0)
    members = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    names, means = list(members), []
    for _ in range(draws):
        drawn = np.concatenate([members[g] for g in rng.choice(names, len(names))])
        present = np.unique(tasks[drawn])
        means.append(np.mean([difference[drawn][tasks[drawn] == t].mean() for t in present]))
    return 100 * np.std(means)


@pytest.mark.parametrize("shared", [True, False], ids=["groups in all tasks", "groups of one task"])
def test_error_is_that_of_a_naive_bootstrap_over_groups(shared):
    rng = np.random.default_rng(1)
    tasks = np.repeat([0, 1, 2], [300, 150, 450])
    groups = rng.integers(0, 60, len(tasks)) + (0 if shared else 100 * tasks)
    ability = rng.normal(size=groups.max() + 1)[groups]  # so that a group's outcomes agree
    correct = (rng.normal(size=(2, len(tasks))) + ability + [[1.5], [0.2]]) > 0
    best, other = compare([Candidate(0.1, 100), Candidate(0.3, 100)], correct, tasks, groups)
    scores = [np.mean([row[tasks == t].mean() for t in (0, 1, 2)]) for row in correct]
    assert (best.deficit, best.standard_error) == (0, 0)
    assert best.accuracy == pytest.approx(100 * scores[0])
    assert other.deficit == pytest.approx(100 * (scores[0] - scores[1]))
    expected = naive_error(correct[0].astype(float) - correct[1], tasks, groups)
    assert other.standard_error == pytest.approx(expected, rel=0.06)


def test_error_of_one_task_of_single_images_is_that_of_a_mean():
    first, second = [1, 1, 1, 1], [1, 0, 0, 1]
    rows = compare([Candidate(1, 1), Candidate(2, 1)], [first, second], [0] * 4, range(4))
    assert rows[1].deficit == pytest.approx(50)
    assert rows[1].standard_error == pytest.approx(100 * np.std([0, 1, 1, 0], ddof=1) / np.sqrt(4))


def test_seeds_of_one_image_are_not_independent():
    first, second = np.ones(4), np.array([1, 0, 0, 1])
    rows = compare([Candidate(1, 1), Candidate(2, 1)], [first, second], [0] * 4, range(4))
    twice = compare(
        [Candidate(1, 1), Candidate(2, 1)],
        [np.tile(first, 2), np.tile(second, 2)],
        [0] * 8,
        [*range(4), *range(4)],
    )
    assert twice[1].standard_error == pytest.approx(rows[1].standard_error)


def table(rights, n=100):
    """Outcomes of n images; candidate k is right on the first ``rights[k]``."""
    return [[image < right for image in range(n)] for right in rights]


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ({(0.1, 100): 90, (0.1, 400): 90, (0.3, 100): 90}, (0.1, 100)),  # all the same
        ({(0.1, 100): 80, (0.1, 400): 90, (0.3, 100): 90}, (0.1, 400)),  # 10 points: clearly worse
        ({(0.1, 100): 50, (0.1, 400): 60, (0.3, 100): 90}, (0.3, 100)),
        ({(0.3, 100): 90, (0.1, 800): 90}, (0.1, 800)),  # the rate comes before the steps
    ],
)
def test_choice_is_the_smallest_rate_and_then_the_fewest_steps(rights, expected):
    rows = compare(
        [Candidate(*key) for key in rights], table(rights.values()), [0] * 100, range(100)
    )
    assert choose(rows).candidate == expected


def test_a_candidate_may_be_worse_by_one_standard_error():
    # 4 images of 100 lost and 3 won: 1 point worse, squared error (7 / 100 - 0.01**2) / 99.
    best, other = np.ones(100, bool), np.ones(100, bool)
    best[:3], other[10:14] = False, False
    rows = compare([Candidate(0.3, 1), Candidate(0.1, 1)], [best, other], [0] * 100, range(100))
    assert rows[1].deficit == pytest.approx(1)
    assert rows[1].standard_error == pytest.approx(100 * np.sqrt(0.0699 / 99))
    assert choose(rows).candidate.rate == 0.1


def test_the_best_of_equal_candidates_is_the_most_conservative():
    rows = compare([Candidate(0.3, 1), Candidate(0.1, 1)], table([9, 9], 10), [0] * 10, range(10))
    assert [row.deficit for row in rows] == [0, 0]
    assert choose(rows).candidate.rate == 0.1


@pytest.mark.parametrize(
    ("rights", "problem"),
    [
        ([10, 50, 90], "add larger rates"),
        ([90, 50, 10], "add smaller rates"),
        ([90, 90, 10], "add smaller rates"),
        ([10, 90, 50], None),
    ],
)
def test_a_grid_of_rates_must_contain_the_best_and_the_choice_inside(rights, problem):
    candidates = [Candidate(rate, 100) for rate in (0.01, 0.03, 0.09)]
    rows = compare(candidates, table(rights), [0] * 100, range(100))
    if problem is None:
        check_grid(rows)
    else:
        with pytest.raises(UsageError, match=problem):
            check_grid(rows)


def test_outcomes_that_do_not_fit_are_an_error():
    with pytest.raises(UsageError, match=r"shape \(1, 4\) do not match 2 candidates"):
        compare([Candidate(1, 1), Candidate(2, 1)], table([2], 4), [0] * 4, range(4))
    with pytest.raises(UsageError, match="at least two groups"):
        compare([Candidate(1, 1)], table([2], 4), [0] * 4, [7] * 4)
    with pytest.raises(UsageError, match="more than once"):
        compare([Candidate(1, 1)] * 2, table([2, 2], 4), [0] * 4, range(4))
