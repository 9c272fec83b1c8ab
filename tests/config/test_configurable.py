"""`@configurable`: construction with and without a config, and errors on misuse."""

import pytest

from dl_lib.config import configurable, get_cfg


class Part:
    @configurable
    def __init__(self, width, *, depth=1, name="part"):
        """Set the values."""
        self.values = (width, depth, name)

    @classmethod
    def from_config(cls, cfg, stride=1):
        return {"width": cfg.MODEL.BACKBONE.INIT_CHANNEL * stride, "name": cls.__name__}


class Child(Part):
    pass


class Grown(Part):
    @configurable
    def __init__(self, *, extra, **kwargs):
        super().__init__(**kwargs)
        self.extra = extra

    @classmethod
    def from_config(cls, cfg, stride=1):
        return {**super().from_config(cfg, stride), "extra": cfg.SEED}


def test_both_ways_of_calling_give_the_same_object():
    cfg = get_cfg()
    assert Part(64).values == (64, 1, "part")
    assert Part(64, depth=2).values == (64, 2, "part")
    assert Part(cfg).values == Part(cfg=cfg).values == (64, 1, "Part")
    assert Part.__init__.__doc__ == "Set the values."


def test_arguments_are_passed_to_from_config_or_override_it():
    cfg = get_cfg()
    assert Part(cfg, 2).values == Part(cfg, stride=2).values == (128, 1, "Part")
    assert Part(cfg, stride=2, depth=5, name="mine").values == (128, 5, "mine")
    assert Part(cfg, width=3).values == (3, 1, "Part")


def test_a_subclass_inherits_or_extends():
    cfg = get_cfg()
    cfg.SEED = 9
    assert Child(cfg).values == (64, 1, "Child")
    grown = Grown(cfg, 2, depth=4)
    assert (grown.values, grown.extra) == ((128, 4, "Grown"), 9)
    assert Grown(width=1, extra=2).values == (1, 1, "part")


def test_from_config_may_accept_any_argument():
    class Open:
        @configurable
        def __init__(self, **kwargs):
            self.kwargs = kwargs

        @classmethod
        def from_config(cls, cfg, **kwargs):
            return {name: 2 * value for name, value in kwargs.items()}

    assert Open(get_cfg(), a=1).kwargs == {"a": 2}
    assert Open(a=1).kwargs == {"a": 1}


def make(from_config):
    namespace = {} if from_config is None else {"from_config": from_config}

    @configurable
    def __init__(self, *, a=0):
        self.a = a

    return type("Made", (), {"__init__": __init__, **namespace})


@pytest.mark.parametrize(
    ("from_config", "message"),
    [
        (None, "Made has a @configurable constructor and needs a classmethod from_config"),
        (lambda cfg: {}, "needs a classmethod"),
        (staticmethod(lambda cfg: {}), "needs a classmethod"),
        (classmethod(lambda cls, config: {}), "must be named cfg"),
        (classmethod(lambda cls, cfg: [1]), "must return a dict.*Received: list"),
        (classmethod(lambda cls, cfg: {"b": 1}), "constructor of Made accepts a;.*Received: b"),
    ],
)
def test_misuse_is_explained_at_the_call(from_config, message):
    cls = make(from_config)
    assert cls(a=3).a == 3
    with pytest.raises(TypeError, match=message):
        cls(get_cfg())


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="Received: depht"):
        Part(get_cfg(), depht=3)


@pytest.mark.parametrize("target", [Part, 3, lambda self: None, Part.from_config])
def test_only_constructors_are_decorated(target):
    with pytest.raises(TypeError, match="must decorate the __init__"):
        configurable(target)
