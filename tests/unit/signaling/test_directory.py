"""The directory: what is sure, what is in doubt, what is missing, and what it asks the registrar for."""

from __future__ import annotations

import pytest

from pbx_signaling.directory.directory import AOR_MAX, ASKED_MAX, Directory, Look, Standing
from pbx_signaling.directory.user import Binding, News, Update, User
from pbx_sip.auth.proof import Secrets

DOUBT_S = 60.0


def user(aor: str = "a@x", *, name: str = "") -> User:
    return User(aor, name, 0, Secrets(aor.partition("@")[0], {"MD5": "0"}), ())


def binding(host: str = "192.0.2.1", expires_at_ms: int = 10_000) -> Binding:
    return Binding("sip:a@192.0.2.1", (), 1, host, 5060, "udp4", 0, "s1", False, expires_at_ms)


class Rig:
    """A directory and the stream's end of it."""

    def __init__(self, users_max: int = 100, unknown_max: int = 10) -> None:
        self.directory = Directory(users_max, DOUBT_S, unknown_max)
        self.revision = 0

    def up(self) -> None:
        self.revision = 0
        self.directory.up()

    def tell(self, *told: News, doubt: bool = False, now: float = 0.0) -> None:
        self.revision += 1
        assert self.directory.receive(Update(self.revision, doubt, told), now)

    def wished(self) -> set[str]:
        wishes = self.directory.drain()
        return set(wishes.follow) if wishes is not None else set()

    def standing(self, aor: str = "a@x", now: float = 0.0) -> Standing:
        return self.directory.look(aor, now).standing


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.up()
    return made


def test_a_miss_is_asked_for_once_and_known_from_then_on(rig: Rig):
    assert rig.standing() is Standing.MISSING
    assert rig.standing() is Standing.MISSING
    wishes = rig.directory.drain()
    assert wishes is not None
    assert wishes.follow == ("a@x",)
    assert rig.directory.drain() is None
    rig.tell(News("a@x", user()))
    assert rig.directory.look("a@x", 0.0) == Look(Standing.CERTAIN, user())
    assert rig.directory.drain() is None


def test_what_is_told_later_replaces_what_was_told(rig: Rig):
    rig.standing()
    rig.tell(News("a@x", user()))
    rig.tell(News("a@x", user(name="Alice")))
    assert rig.directory.look("a@x", 0.0).user == user(name="Alice")
    rig.tell(News("a@x"))
    assert rig.directory.look("a@x", 0.0) == Look(Standing.CERTAIN, None)
    rig.tell(News("a@x", user()))
    assert rig.directory.look("a@x", 0.0) == Look(Standing.CERTAIN, user())
    assert (rig.directory.users, rig.directory.unknown) == (1, 0)


def test_a_name_that_nobody_has_is_known_to_be_such(rig: Rig):
    rig.standing("z@x")
    rig.tell(News("z@x"))
    assert rig.directory.look("z@x", 0.0) == Look(Standing.CERTAIN, None)
    assert (rig.directory.users, rig.directory.unknown) == (0, 1)


def test_a_broken_stream_leaves_doubt_until_the_next_one_has_told(rig: Rig):
    rig.standing()
    rig.tell(News("a@x", user()))
    rig.wished()
    rig.directory.down(5.0)
    assert rig.directory.doubtful == 1
    assert rig.directory.look("a@x", 5.0) == Look(Standing.DOUBTFUL, user())
    assert rig.wished() == set()  # there is nobody to ask
    rig.up()
    assert rig.wished() == {"a@x"}
    assert rig.standing(now=6.0) is Standing.DOUBTFUL
    rig.tell(News("a@x", user(name="new")), now=6.0)
    assert rig.directory.look("a@x", 6.0) == Look(Standing.CERTAIN, user(name="new"))


def test_doubt_does_not_serve_for_ever(rig: Rig):
    rig.standing()
    rig.tell(News("a@x", user()))
    rig.directory.down(0.0)
    rig.directory.down(50.0)  # a second break makes it no younger
    assert rig.standing(now=DOUBT_S) is Standing.DOUBTFUL
    assert rig.standing(now=DOUBT_S + 1) is Standing.MISSING


def test_a_gap_in_the_revisions_is_told(rig: Rig):
    assert rig.directory.receive(Update(1, False, ()), 0.0)
    assert not rig.directory.receive(Update(3, False, (News("a@x", user()),)), 0.0)
    rig.up()
    assert rig.directory.receive(Update(1, False, ()), 0.0)


def test_the_registrar_may_doubt_and_tell_anew(rig: Rig):
    for name in ("a@x", "b@x"):
        rig.standing(name)
        rig.tell(News(name, user(name)))
    rig.tell(News("b@x", user("b@x")), doubt=True)
    assert rig.standing("a@x") is Standing.DOUBTFUL
    assert rig.standing("b@x") is Standing.CERTAIN


def test_one_that_could_not_be_read_is_in_doubt_and_asked_for_when_it_is_used(rig: Rig):
    rig.standing()
    rig.wished()
    rig.tell(News("a@x", user()))
    rig.tell(News("a@x", failed=True))
    assert rig.wished() == set()
    assert rig.standing() is Standing.DOUBTFUL
    assert rig.wished() == {"a@x"}
    rig.standing("b@x")
    rig.wished()
    rig.tell(News("b@x", failed=True))
    assert rig.standing("b@x") is Standing.MISSING
    assert rig.wished() == {"b@x"}


def test_who_was_not_asked_about_for_longest_goes():
    rig = Rig(users_max=2)
    rig.up()
    for name in ("a@x", "b@x"):
        rig.standing(name)
        rig.tell(News(name, user(name)))
    rig.standing("a@x")
    rig.tell(News("b@x", user("b@x", name="changed")))  # being told about is not being used
    rig.standing("c@x")
    rig.wished()
    rig.tell(News("c@x", user("c@x")))
    wishes = rig.directory.drain()
    assert wishes is not None
    assert wishes.unfollow == ("b@x",)
    rig.tell(News("b@x", user("b@x")))  # on its way when it was dropped
    assert rig.standing("b@x") is Standing.MISSING
    assert rig.directory.users == 2


def test_who_is_wanted_again_before_that_was_told_is_followed_on():
    rig = Rig(users_max=1)
    rig.up()
    for name in ("a@x", "b@x"):
        rig.standing(name)
        rig.wished()
        rig.tell(News(name, user(name)))
    rig.standing("a@x")
    wishes = rig.directory.drain()
    assert wishes is not None
    assert (wishes.follow, wishes.unfollow) == (("a@x",), ())


def test_strangers_do_not_drive_users_out():
    rig = Rig(users_max=2, unknown_max=3)
    rig.up()
    rig.standing()
    rig.tell(News("a@x", user()))
    for number in range(50):
        rig.standing(f"{number}@x")
        rig.tell(News(f"{number}@x"))
    assert rig.standing() is Standing.CERTAIN
    assert rig.directory.unknown == 3


def test_phones_that_only_register_drive_nobody_out():
    rig = Rig(users_max=2)
    rig.up()
    for name in ("a@x", "b@x"):
        rig.directory.look(name, 0.0, if_room=True)
        assert rig.wished() == {name}
        rig.tell(News(name, user(name)))
    rig.directory.look("a@x", 0.0, if_room=True)
    rig.directory.look("c@x", 0.0, if_room=True)
    assert rig.wished() == set()
    rig.standing("d@x")
    rig.tell(News("d@x", user("d@x")))
    assert rig.standing("a@x") is Standing.MISSING  # it was the first; registering again is not being used


def test_only_so_many_are_asked_for_at_once():
    rig = Rig(users_max=5_000)
    rig.up()
    for number in range(ASKED_MAX + 100):
        rig.standing(f"{number}@x")
    assert len(rig.wished()) == ASKED_MAX
    rig.standing("n" * AOR_MAX + "@x")
    assert rig.wished() == set()


def test_after_a_break_all_are_asked_for_step_by_step_the_last_used_first():
    rig = Rig(users_max=5_000)
    rig.up()
    for number in range(1_000):
        rig.standing(f"{number}@x")
        rig.tell(News(f"{number}@x", user(f"{number}@x")))
    rig.wished()
    rig.directory.down(0.0)
    rig.up()
    told: list[str] = []
    while wishes := rig.directory.drain():
        told.extend(wishes.follow)
        assert len(wishes.follow) <= ASKED_MAX // 2
        rig.tell(*(News(name, user(name)) for name in wishes.follow))
    assert told == [f"{number}@x" for number in reversed(range(1_000))]
    assert rig.directory.doubtful == 0


def test_bindings_of_a_register_count_at_once_but_not_in_doubt(rig: Rig):
    rig.standing()
    rig.tell(News("a@x", user()))
    rig.directory.bound("a@x", (binding(),))
    rig.directory.bound("nobody@x", (binding(),))
    known = rig.directory.look("a@x", 0.0).user
    assert known is not None
    assert known.bindings_at(9_999) == [binding()]
    assert known.bindings_at(10_000) == []
    rig.directory.down(0.0)
    rig.directory.bound("a@x", ())
    known = rig.directory.look("a@x", 0.0).user
    assert known is not None
    assert known.bindings == (binding(),)


def test_no_secret_shows(rig: Rig):
    assert "MD5" not in repr(News("a@x", user()))
    assert "1 users" not in repr(rig.directory)
