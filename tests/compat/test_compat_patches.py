"""Patches are taken back in full."""

from __future__ import annotations

from yoloqat.compat.patches import Patches


class Base:
    value = 1


class Derived(Base):
    pass


def test_the_first_value_comes_back_however_often_it_was_changed():
    patches = Patches()
    patches.set(Base, "value", 2)
    patches.set(Base, "value", 3)
    assert Base.value == 3
    patches.restore()
    assert Base.value == 1
    patches.restore()
    assert Base.value == 1


def test_what_was_inherited_is_inherited_again():
    patches = Patches()
    patches.set(Derived, "value", 2)
    assert (Base.value, Derived.value) == (1, 2)
    patches.restore()
    assert "value" not in vars(Derived)
