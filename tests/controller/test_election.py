from hypothesis import given
from hypothesis import strategies as st

from controller.election import electorate, owner
from tests.controller.world import controller

names = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), unique=True, max_size=6)


def test_serve_goes_before_deploy_and_the_dead_do_not_vote() -> None:
    serving, gone = controller("a"), controller("b", online=False)
    deploying = controller("c", mode="deploy")

    assert electorate([serving, gone, deploying]) == ("a",)
    assert electorate([gone, deploying]) == ("c",)
    assert electorate([gone]) == ()
    assert owner((), "pi") is None


@given(controllers=names, device=st.text(max_size=10))
def test_one_owner_whoever_asks_in_whatever_order(controllers: list[str], device: str) -> None:
    chosen = owner(controllers, device)

    assert (chosen is None) == (not controllers)
    assert owner(list(reversed(controllers)), device) == chosen


@given(controllers=names.filter(lambda found: len(found) > 1), device=st.text(max_size=10))
def test_when_one_goes_only_its_devices_change_hands(controllers: list[str], device: str) -> None:
    gone, *left = controllers
    chosen = owner(controllers, device)

    if chosen != gone:
        assert owner(left, device) == chosen


def test_devices_are_shared_out() -> None:
    shares = [owner(("a", "b", "c"), f"pi-{n}") for n in range(3000)]

    assert all(800 < shares.count(name) < 1200 for name in ("a", "b", "c"))
