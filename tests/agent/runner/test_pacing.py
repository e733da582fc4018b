from hypothesis import given
from hypothesis import strategies as st

from agent.runner.pacing import Spacing, TokenBucket


def test_without_a_rate_everything_passes() -> None:
    assert TokenBucket().take(1000, 0.0) == 1000


def test_a_burst_of_one_second_then_the_rate() -> None:
    bucket = TokenBucket()
    bucket.reset(5.0, 100.0)
    assert bucket.take(8, 100.0) == 5
    assert bucket.take(1, 100.1) == 0
    assert bucket.take(9, 100.4) == 2


def test_a_rate_below_one_still_lets_one_through() -> None:
    bucket = TokenBucket()
    bucket.reset(0.1, 0.0)
    assert bucket.take(2, 0.0) == 1
    assert bucket.take(1, 9.0) == 0
    assert bucket.take(1, 10.0) == 1


def test_a_rate_of_zero_lets_nothing_through() -> None:
    bucket = TokenBucket()
    bucket.reset(0.0, 0.0)
    assert bucket.take(1, 1000.0) == 0


def test_the_same_rate_again_does_not_refill() -> None:
    bucket = TokenBucket()
    bucket.reset(2.0, 0.0)
    assert bucket.take(2, 0.0) == 2
    bucket.reset(2.0, 0.0)
    assert bucket.take(1, 0.0) == 0


@given(
    st.floats(0.1, 50),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 20)), max_size=40),
)
def test_never_more_than_burst_plus_rate(rate: float, calls: list[tuple[float, int]]) -> None:
    bucket = TokenBucket()
    bucket.reset(rate, 0.0)
    now, passed = 0.0, 0
    for pause, wanted in calls:
        now += pause
        granted = bucket.take(wanted, now)
        assert 0 <= granted <= wanted
        passed += granted
    assert passed <= max(1.0, rate) + rate * now + 1e-6


def test_requests_are_spaced_and_the_wait_is_bounded() -> None:
    spacing = Spacing()
    waits = [spacing.wait_s(1.0, 50.0, 2.5) for _ in range(4)]
    assert waits == [0.0, 1.0, 2.0, None]
    assert spacing.wait_s(1.0, 60.0, 2.5) == 0.0


def test_a_shorter_interval_does_not_keep_the_long_waits() -> None:
    spacing = Spacing()
    assert [spacing.wait_s(4.0, 0.0, 10.0) for _ in range(3)] == [0.0, 4.0, 8.0]
    spacing.ease(0.5, 0.0, waiting=2)
    assert spacing.wait_s(0.5, 0.0, 10.0) == 1.5
    spacing.ease(100.0, 0.0, waiting=2)
    assert spacing.wait_s(0.5, 0.0, 10.0) == 2.0
